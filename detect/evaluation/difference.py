"""How two evaluations of the same images differ: `detect evaluate --against`, and `detect report --runs`.

Axes: I images, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.bootstrap import Bootstrap, Name, Resampled, influence, interval, nested, p_value

UNLIKELY = 0.05  # p-value below which a difference is said to be more than chance
LISTED = 10  # classes and images of each sort that are printed
KEPT = 50  # images of each sort in a file


class Difference(NamedTuple):
    """A number of two evaluations: both values, the difference, its 95 % interval and p-value of the paired test.

    The interval is None where all resamples agree.
    """

    name: Name
    value: float
    other: float
    difference: float
    interval: tuple[float, float] | None
    p: float

    @property
    def label(self) -> str:
        """The name without that of its group."""
        return " ".join(self.name[1:] or self.name)

    def values(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {**self._asdict(), "interval": self.interval and list(self.interval), "name": self.label}


class Comparison(NamedTuple):
    """An evaluation against another one.

    other: how the other one is called; evaluator: its evaluator; metric: the number that is looked into; differences:
    of all numbers that both have; influence (I,): how much each image adds to the advantage in the metric, which is
    the difference, or minus it where the least value is the best.
    """

    other: str
    evaluator: Any
    metric: str
    differences: list[Difference]
    influence: np.ndarray

    def single(self) -> list[Difference]:
        """The differences of single numbers."""
        return [one for one in self.differences if len(one.name) == 1]

    def groups(self) -> dict[str, list[Difference]]:
        """The differences of numbers of classes or keypoints by group, the largest first."""
        found: dict[str, list[Difference]] = {}
        for one in sorted(self.differences, key=lambda one: -abs(one.difference)):
            if len(one.name) > 1:
                found.setdefault(one.name[0], []).append(one)
        return found

    def images(self, most: int) -> tuple[list[int], list[int]]:
        """The images that add most to the advantage, and those that take most from it."""
        order = np.argsort(-self.influence, kind="stable")
        return [i for i in order[:most].tolist() if self.influence[i] > 0], [
            i for i in order[::-1][:most].tolist() if self.influence[i] < 0
        ]

    def values(self, annotations: Annotations) -> dict[str, Any]:
        """Plain values, for a file."""
        more, less = (
            [{"file_name": annotations.file_name(i), self.metric: float(self.influence[i])} for i in some]
            for some in self.images(KEPT)
        )
        numbers = nested({one.name: one.values() for one in self.differences})
        return {"other": self.other, "numbers": numbers, "images": {"better": more, "worse": less}}


def difference(a: Bootstrap, b: Bootstrap, name: Name) -> Difference:
    """The difference a - b of a number on the same resamples."""
    value, other = a.estimates[name], b.estimates[name]
    apart = a.values[name] - b.values[name]
    known = apart[~np.isnan(apart)]
    (low, high), (least, most) = a.ranges[name], b.ranges[name]
    within = low - most, high - least
    sure = interval(known, value - other, within) if len(known) and np.ptp(known) > 1e-12 else None
    return Difference(name, value, other, value - other, sure, p_value(a.values[name], b.values[name]))


def compare(
    ours: tuple[Resampled, Bootstrap], theirs: tuple[Resampled, Bootstrap], images: int, metric: str, other: str
) -> Comparison:
    """Compare two evaluations of the same images.

    Args:
        ours: the evaluator, and its numbers on resamples.
        theirs: those of the other one, on the same resamples.
        images: how many there are.
        metric: the number that images are ranked by; with a minus before it, the least value is the best.
        other: how the other one is called.
    """
    a, b = ours[1], theirs[1]
    names = [name for name in a.values if name in b.values]
    least, metric = metric.startswith("-"), metric.lstrip("-")
    carried = influence(ours[0], theirs[0], images, metric) if (metric,) in names else np.zeros(images)
    carried = -carried if least else carried
    return Comparison(other, theirs[0], metric, [difference(a, b, name) for name in names], carried)


def comparison_lines(found: Comparison, annotations: Annotations) -> Iterator[str]:
    """The lines that `detect evaluate` prints of a comparison."""
    yield f"against {found.other}: difference (95 % interval, p of the paired test; * p < {UNLIKELY:g})"
    for one in found.single():
        yield f"  {_told(one)}"
    for group, rows in found.groups().items():
        yield f"  {group}, the largest differences of {len(rows)}"
        yield from (f"    {_told(one)}" for one in rows[:LISTED] if one.difference)
    for title, some in zip(("better", "worse"), found.images(LISTED), strict=True):
        if some:
            yield f"  images that got {title}, by what each adds to the advantage in {found.metric}"
            yield from (f"    {found.influence[i]:+.4f}  {annotations.file_name(i)}" for i in some)


def _told(one: Difference) -> str:
    sure = f"{one.interval[0]:+.3f} to {one.interval[1]:+.3f}, " if one.interval else ""
    mark = " *" if one.p < UNLIKELY else ""
    return f"{one.label:<24} {one.value:.3f} - {one.other:.3f} = {one.difference:+.3f}  ({sure}p {one.p:.3f}){mark}"
