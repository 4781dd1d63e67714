"""How sure a number is: the bootstrap over images (Efron, 1979), and paired tests, for every task.

A resample draws as many images as there are, with repetition. An evaluator says what its numbers are when each image
counts as often as it was drawn (`resampled`); how is the evaluator's affair, and that all ones give its `result` is
tested of each. A part of the images is a resample, too: its numbers are those of weights 0 and 1.

Axes: I images, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

MOST, LEAST, WORK = 1000, 200, 400_000  # resamples of few and of many images; resamples times images between them
Name = tuple[str, ...]  # ("AP",) or ("per_class", "cat"): the way to a number in a result


@runtime_checkable
class Resampled(Protocol):
    """An evaluator whose numbers can be resampled."""

    def resampled(self, weights: np.ndarray, /) -> dict[str, Any]:
        """The numbers of `result`, under the same names, when images count as often as `weights` (R, I) says.

        Each is an array (R,), NaN where it is undefined.
        """

    def result(self) -> dict[str, Any]:
        """The metrics by name."""


class Bootstrap(NamedTuple):
    """The numbers of a set (estimates) and of its resamples (values, (R,) each), by the same names."""

    estimates: dict[Name, float]
    values: dict[Name, np.ndarray]

    def interval(self, name: Name) -> tuple[float, float] | None:
        """The 95 % interval of a number; None where all resamples agree, as if a single image decides it."""
        values = self.values[name]
        return interval(values) if np.nanmax(values) - np.nanmin(values) > 1e-12 else None

    def intervals(self) -> dict[str, Any]:
        """The 95 % interval of each number, [low, high] or None, nested as the numbers are in a result."""
        return nested({name: self.interval(name) for name in self.values})


def bootstrap(evaluator: Resampled, weights: np.ndarray) -> Bootstrap:
    """Resample the numbers of an evaluator.

    Args:
        evaluator: one that has taken all its predictions.
        weights: (R, I) from `draw_weights`; the same for all that are compared.
    """
    estimates = {name: float(value) for name, value in leaves(evaluator.result()) if isinstance(value, int | float)}
    values = {
        name: centred(column, estimates[name])
        for name, column in leaves(evaluator.resampled(weights))
        if name in estimates and not np.isnan(column).all()
    }
    return Bootstrap({name: estimates[name] for name in values}, values)


def leaves(tree: Mapping[str, Any], above: Name = ()) -> Iterator[tuple[Name, Any]]:
    """Every value of nested dictionaries, with the way to it."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def nested(values: Mapping[Name, Any]) -> dict[str, Any]:
    """The nested dictionaries that `leaves` took apart."""
    tree: dict[str, Any] = {}
    for (*above, last), value in values.items():
        place = tree
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return tree


def resamples_for(images: int) -> int:
    """How many resamples to draw: a thousand, fewer where evaluating that many would take minutes."""
    return int(np.clip(WORK // max(images, 1), LEAST, MOST))


def draw_weights(images: int, resamples: int, seed: int = 0) -> np.ndarray:
    """(R, I) how often each resample has each image; the same for all models, so that differences are paired."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(images, size=(resamples, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.int32)


def centred(values: np.ndarray, estimate: float) -> np.ndarray:
    """Resampled values (R,) moved so that their mean is the estimate.

    An image that is drawn twice makes classes with few objects easier or lets them vanish: the AP of resamples is
    biased, by more than its interval where there are many rare classes.
    """
    return values - np.nanmean(values) + estimate


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
    return low, high


def p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of a paired bootstrap test: how often the difference of resamples (R,) has the other sign.

    Resamples in which one of the two is undefined do not count. Never less than 1/R.
    """
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    less, more = ((a <= b).mean(), (a >= b).mean()) if len(a) else (1.0, 1.0)
    return float(min(1.0, max(1 / max(len(a), 1), 2 * min(less, more))))


def mean_known(values: np.ndarray) -> np.ndarray:
    """The mean (R,) over the classes (C, R) that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(known, values, 0).sum(0) / known.sum(0)
    return mean
