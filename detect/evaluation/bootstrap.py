"""How sure a number is: the bootstrap over images (Efron, 1979), and paired tests, for every task.

A resample draws as many images as there are, with repetition. An evaluator says what its numbers are when each image
counts as often as it was drawn (`resampled`); how is the evaluator's affair, and that all ones give its `result` is
tested of each. A part of the images is a resample, too: its numbers are those of weights 0 and 1.

Axes: I images, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

MOST, LEAST, WORK = 1000, 200, 400_000  # resamples of few and of many images; resamples times images between them
BLOCK = 4_000_000  # resamples times images that are weighed together
Name = tuple[str, ...]  # ("AP",) or ("per_class", "cat"): the way to a number in a result


@runtime_checkable
class Resampled(Protocol):
    """An evaluator whose numbers can be resampled."""

    def resampled(self, weights: np.ndarray, /, only: str = "") -> dict[str, Any]:
        """The numbers of `result`, under the same names, when images count as often as `weights` (R, I) says.

        Each is an array (R,), NaN where it is undefined. `only` names one that is wanted: others may be missing then.
        """

    def result(self) -> dict[str, Any]:
        """The metrics by name."""


class Bootstrap(NamedTuple):
    """The numbers of a set (estimates) and of its resamples (values, (R,) each, centred on these), by the same names.

    ranges: the least and the greatest value that each may have; so have their intervals.
    """

    estimates: dict[Name, float]
    values: dict[Name, np.ndarray]
    ranges: dict[Name, tuple[float, float]]

    @staticmethod
    def of(estimates: dict[Name, float], drawn: dict[Name, np.ndarray]) -> Bootstrap:
        """Centre the numbers of resamples, those that are not undefined in all of them."""
        known = {name: values for name, values in drawn.items() if not np.isnan(values).all()}
        ranges = {name: range_of(np.append(values, estimates[name])) for name, values in known.items()}
        return Bootstrap(estimates, {n: centred(values, estimates[n]) for n, values in known.items()}, ranges)

    def interval(self, name: Name) -> tuple[float, float] | None:
        """The 95 % interval of a number, which it holds; None where all resamples agree, as if one image decides it."""
        values = self.values[name]
        if np.nanmax(values) - np.nanmin(values) <= 1e-12:
            return None
        return interval(values, self.estimates[name], self.ranges[name])

    def intervals(self) -> dict[str, Any]:
        """The 95 % interval of each number, [low, high] or None, nested as the numbers are in a result."""
        found = {name: self.interval(name) for name in self.values}
        return nested({name: one and list(one) for name, one in found.items()})


def bootstrap(evaluator: Resampled, weights: np.ndarray) -> Bootstrap:
    """Resample the numbers of an evaluator.

    Args:
        evaluator: one that has taken all its predictions.
        weights: (R, I) from `draw_weights`; the same for all that are compared.
    """
    estimates = {name: float(value) for name, value in leaves(evaluator.result()) if isinstance(value, int | float)}
    drawn = {name: column for name, column in leaves(evaluator.resampled(weights)) if name in estimates}
    found = Bootstrap.of(estimates, drawn)
    return found._replace(estimates={name: estimates[name] for name in found.values})


def influence(a: Resampled, b: Resampled, images: int, metric: str) -> np.ndarray:
    """How much each image (I,) adds to the difference a - b of a number: what it loses when the image is left out."""
    found = [np.zeros(0)]
    step = max(1, BLOCK // max(images, 1))
    for start in range(0, images, step):
        weights = np.ones((min(step, images - start) + 1, images), np.int32)  # the last one: nothing is left out
        np.fill_diagonal(weights[:-1, start:], 0)
        left, right = (one.resampled(weights, only=metric)[metric] for one in (a, b))
        difference = left - right
        found.append(difference[-1] - difference[:-1])
    return np.nan_to_num(np.concatenate(found))


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


def range_of(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest value of a number that had these (R,): none of ours is below 0 that never was, and
    those that never were above 1 are shares.
    """
    least = 0.0 if np.nanmin(values) >= 0 else -math.inf
    return least, 1.0 if least == 0 and np.nanmax(values) <= 1 else math.inf


def interval(
    values: np.ndarray, estimate: float, within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """The middle 95 % of resampled values, widened to the estimate where they are so skewed that they leave it out.

    Args:
        values: (R,), centred on the estimate, which may have moved some out of `within`.
        estimate: the number.
        within: the least and the greatest value that it may have.
    """
    low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
    return max(min(low, estimate), within[0]), min(max(high, estimate), within[1])


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
