"""Fits the maps of `ScoreCalibration` to predictions that were judged right or wrong.

Isotonic regression (Zadrozny and Elkan, 2002) over groups of neighbouring scores, made strictly increasing, so that it
keeps the order within a class; or one temperature for each class (Guo et al., 2017, arXiv 1706.04599), on the logit of
the score, as Küppers et al. (2020), arXiv 2004.13546, do for detectors.

Axes: N predictions, C classes, P knots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detect.evaluation.calibration import Judged
from detect.score_calibration import EDGE, ScoreCalibration, tempered

GROUP, KNOTS = 20, 40  # fewest predictions of a knot of an isotonic map, most knots
ENOUGH = 100  # predictions, and RIGHTS right ones, of a class that gets a map of its own
RIGHTS = 20
SLOPE = 1e-3  # least slope of an isotonic map; what is flat in the regression must rise, or AP would change
APART = 1e-6  # least distance of two knots, so that rounding does not make a rise of SLOPE flat
LEAST_TEMPERATURE = 0.5  # of detectors: below, several scores near 1 would become 1, and AP would change
RANGE = 0.05, 20.0  # of temperatures


def fit_calibration(
    judged: Judged, labels: Sequence[int], classes: int, method: str, basis: str
) -> tuple[ScoreCalibration, list[int]]:
    """A map for each class of a model.

    Args:
        judged: predictions of the fitting set.
        labels: for each class of the data its label in the model, or -1.
        classes: number of the model's classes.
        method: isotonic or temperature.
        basis: what it is fitted on.

    Returns:
        The calibration, and the model's labels whose map is that of all classes, for want of predictions.
    """
    of_model = {label: judged.of(k) for k, label in enumerate(labels) if label >= 0}
    pooled = [k for k in range(classes) if k not in of_model or not _enough(of_model[k])]
    some = [judged if k in pooled else of_model[k] for k in range(classes)] + [judged]
    if method == "temperature":
        temperatures = [fit_temperature(one) for one in some]
        return ScoreCalibration("temperature", temperatures=temperatures, basis=basis), pooled
    maps = [fit_isotonic(one.scores, one.right) for one in some]
    scores, confidences = ([one[i].tolist() for one in maps] for i in (0, 1))
    return ScoreCalibration("isotonic", scores=scores, confidences=confidences, basis=basis), pooled


def _enough(judged: Judged) -> bool:
    return len(judged.scores) >= ENOUGH and int(judged.right.sum()) >= RIGHTS


def fit_isotonic(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The knots (P,) of a strictly increasing piecewise-linear map: scores from 0 to 1, and confidences.

    Neighbouring predictions are grouped first, by their number and, where few of them are right, by the right ones:
    the many low scores of a detector are few groups. A knot is the mean of what the regression joins.

    Args:
        scores: scores (N,), 0 to 1.
        right: whether each prediction is right (N,) bool.
    """
    from sklearn.isotonic import isotonic_regression  # late: it takes half a second

    order = np.argsort(scores, kind="stable")
    x, y = scores[order].astype(np.float64), right[order].astype(np.float64)
    if not len(x):
        return np.array([0.0, 1.0]), np.array([0.0, 1.0])
    weight = 1 + y * len(y) / max(y.sum(), 1)  # right ones together count as much as all
    count = int(np.clip(len(x) // GROUP, 1, KNOTS))
    group = np.minimum((weight.cumsum() - weight) / weight.sum() * count, count - 1).astype(int)
    _, group, number = np.unique(group, return_inverse=True, return_counts=True)
    means = np.bincount(group, x) / number, np.bincount(group, y) / number
    fitted = isotonic_regression(means[1], sample_weight=number, y_min=0, y_max=1)
    level = np.unique(fitted, return_inverse=True)[1]
    total = np.bincount(level, number)
    at, value = np.bincount(level, means[0] * number) / total, np.bincount(level, fitted * number) / total
    return _strictly(at, value)


def _strictly(at: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots from 0 to 1 through these, which do not fall, with a slope of SLOPE or more."""
    inner = (np.diff(at, prepend=0.0) >= APART) & (at <= 1 - APART)
    x = np.concatenate([[0.0], at[inner], [1.0]])
    y = np.concatenate([[value[0]], value[inner], [value[-1]]])
    return x, np.clip((1 - SLOPE) * y + SLOPE * x, 0, 1)


def fit_temperature(judged: Judged) -> float:
    """The temperature with the highest likelihood of what is right and wrong among the predictions that count.

    1 where there is nothing to learn from: no prediction, or all right, or all wrong.
    """
    rows = judged.scores >= judged.least
    scores, right = judged.scores[rows].astype(np.float64), judged.right[rows]
    if right.all() or not right.any():
        return 1.0

    def loss(temperature: float) -> float:
        p = np.clip(tempered(scores, temperature), EDGE, 1 - EDGE)
        return -float(np.where(right, np.log(p), np.log1p(-p)).mean())

    return best_temperature(loss, LEAST_TEMPERATURE)


def best_temperature(loss: Callable[[float], float], least: float = RANGE[0]) -> float:
    """The temperature from `least` to RANGE[1] with the least loss, by golden-section search of its logarithm."""
    low, high = np.log(least), np.log(RANGE[1])
    ratio = (np.sqrt(5) - 1) / 2
    while high - low > 1e-5:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(float(np.exp(a))) <= loss(float(np.exp(b))) else (a, high)
    return round(float(np.exp((low + high) / 2)), 4)
