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

    shares: the names of those that are from 0 to 1 in every resample; so are their intervals.
    """

    estimates: dict[Name, float]
    values: dict[Name, np.ndarray]
    shares: frozenset[Name] = frozenset()

    @staticmethod
    def of(estimates: dict[Name, float], drawn: dict[Name, np.ndarray]) -> Bootstrap:
        """Centre the numbers of resamples, those that are not undefined in all of them."""
        known = {name: values for name, values in drawn.items() if not np.isnan(values).all()}
        shares = frozenset(n for n, values in known.items() if np.nanmin(values) >= 0 and np.nanmax(values) <= 1)
        return Bootstrap(estimates, {n: centred(values, estimates[n]) for n, values in known.items()}, shares)

    def interval(self, name: Name) -> tuple[float, float] | None:
        """The 95 % interval of a number; None where all resamples agree, as if a single image decides it."""
        values = self.values[name]
        if np.nanmax(values) - np.nanmin(values) <= 1e-12:
            return None
        low, high = interval(values, self.estimates[name])
        return (max(low, 0.0), min(high, 1.0)) if name in self.shares else (low, high)

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


def interval(values: np.ndarray, estimate: float) -> tuple[float, float]:
    """The middle 95 % of resampled values, widened to hold the estimate.

    Centring may push the estimate out: where a number is 1, and 0 in a few resamples alone.
    """
    low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
    return min(low, estimate), max(high, estimate)


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
