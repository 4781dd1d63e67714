"""What `detect evaluate` says of how sure its numbers are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from textwrap import wrap
from typing import Any

from detect.data.annotations import Annotations
from detect.evaluation.bootstrap import Bootstrap, Name, Resampled, bootstrap, draw_weights, resamples_for

WIDTH = 120  # of the lines


def resample(evaluator: Any, annotations: Annotations, resamples: int = -1) -> Bootstrap | None:
    """Resample the numbers of an evaluator; None where nothing can be, or shall be.

    Args:
        evaluator: one that has taken all its predictions.
        annotations: the split; a resample draws from its images.
        resamples: how many. -1: `resamples_for` so many images; 0: none.
    """
    images = len(annotations)
    count = resamples_for(images) if resamples < 0 else resamples
    if not count or not images or not isinstance(evaluator, Resampled):
        return None
    return bootstrap(evaluator, draw_weights(images, count))


def interval_lines(found: Bootstrap, annotations: Annotations) -> Iterator[str]:
    """The lines that `detect evaluate` prints of intervals: single numbers, then each group such as `per_class`."""
    count = len(next(iter(found.values.values()), ()))
    yield f"95 % intervals (bootstrap: {count:,} resamples of the {len(annotations):,} images)"
    for group, names in groupby(found.values, key=lambda name: name[0] if len(name) > 1 else ""):
        told = ", ".join(_told(name, found) for name in names)
        yield from wrap(f"{group}: {told}" if group else told, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _told(name: Name, found: Bootstrap) -> str:
    between = found.interval(name)
    label = " ".join(name[1:] or name).replace(" ", "\u00a0")  # so that lines do not break within
    return f"{label}\u00a0" + (f"{between[0]:.3f}\u2013{between[1]:.3f}" if between else "\u2013")
