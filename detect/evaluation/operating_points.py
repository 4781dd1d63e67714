"""Precision, recall and F1 by confidence, and the confidence threshold for a wanted precision or recall.

Axes: N detections, K distinct scores, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from detect.evaluation.tide import RIGHT, ErrorAnalysis

LEVELS = np.linspace(0, 1, 101)  # of confidence, where curves are drawn
_Z = 1.959964  # standard deviations that hold 95 % of a normal distribution


class OperatingPoint(NamedTuple):
    """What a confidence threshold gives: the detections that score higher.

    conf: the threshold; right, predicted: true positives and all detections above it; objects: annotated ones; reached:
    whether it meets what was wanted.
    """

    conf: float
    right: int
    predicted: int
    objects: int
    reached: bool = True

    @property
    def precision(self) -> float | None:
        """The share of the detections that are right; None without any."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """The share of the objects that are found; None without any."""
        return self.right / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None where there are neither detections nor objects."""
        return 2 * self.right / (self.predicted + self.objects) if self.predicted + self.objects else None

    def values(self) -> dict[str, Any]:
        """The point as plain values, for a file."""
        names = ("conf", "precision", "recall", "predicted", "objects", "reached")
        return {name: getattr(self, name) for name in names}


class Curve(NamedTuple):
    """The operating points of a class, or of all classes together, by falling threshold.

    scores (K,) the distinct scores, falling; right, predicted (K,) int64 true positives and all detections that score
    as much or more; objects: annotated ones.
    """

    scores: np.ndarray
    right: np.ndarray
    predicted: np.ndarray
    objects: int

    @property
    def precision(self) -> np.ndarray:
        """The precision at each score (K,)."""
        return self.right / np.maximum(self.predicted, 1)

    @property
    def recall(self) -> np.ndarray:
        """The recall at each score (K,)."""
        return self.right / max(self.objects, 1)

    @property
    def f1(self) -> np.ndarray:
        """F1 at each score (K,)."""
        return 2 * self.right / np.maximum(self.predicted + self.objects, 1)

    def at(self, conf: float) -> OperatingPoint:
        """The operating point of a threshold."""
        k = int((self.scores > conf).sum())
        right, predicted = (int(self.right[k - 1]), int(self.predicted[k - 1])) if k else (0, 0)
        return OperatingPoint(conf, right, predicted, self.objects)

    def by_level(self) -> dict[str, np.ndarray]:
        """precision, recall and f1 (101,) at the thresholds 0, 0.01 … 1; precision is NaN where nothing is detected."""
        k = np.searchsorted(-self.scores, -LEVELS, side="left")  # scores above each level
        values = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        none = {"precision": np.nan, "recall": 0.0, "f1": 0.0}
        return {name: np.append(none[name], column)[k] for name, column in values.items()}


@dataclass(frozen=True)
class Target:
    """What a confidence threshold is wanted for: a precision, a recall, or the best F1.

    Args:
        kind: "precision", "recall" or "F1".
        value: the wanted value; of no meaning for F1.
    """

    kind: str
    value: float = 1.0

    def __str__(self) -> str:
        return "the best F1" if self.kind == "F1" else f"{self.kind} {self.value:g}"

    def choose(self, curve: Curve) -> OperatingPoint | None:
        """The operating point for it; None where no detection is right.

        Of all that reach a wanted precision it is the one with the highest recall, and the other way round. Where none
        does, it is the one that comes nearest, with `reached` False.
        """
        if not curve.right.any() or not curve.objects:
            return None
        first, other = {
            "precision": (curve.precision, curve.recall),
            "recall": (curve.recall, curve.precision),
            "F1": (curve.f1, curve.recall),
        }[self.kind]
        least = first.max() if self.kind == "F1" else min(self.value, first.max())
        reaching = np.flatnonzero(first >= least)
        k = int(reaching[other[reaching].argmax()])
        conf = conf_below(curve.scores, k)
        reached = self.kind == "F1" or bool(first[k] >= self.value)
        return OperatingPoint(conf, int(curve.right[k]), int(curve.predicted[k]), curve.objects, reached)


class Thresholds(NamedTuple):
    """The operating points for a target: of all classes together, and of each class; None where no detection is right.

    Such a class takes the threshold of all classes.
    """

    target: Target
    overall: OperatingPoint | None
    names: Sequence[str]
    classes: Sequence[OperatingPoint | None]

    def values(self) -> dict[str, Any]:
        """The thresholds as plain values, for a file."""
        rows = {name: point and point.values() for name, point in zip(self.names, self.classes, strict=True)}
        wanted = {} if self.target.kind == "F1" else {"target": self.target.value}
        return {**wanted, "overall": self.overall and self.overall.values(), "per_class": rows}


def curve_of(scores: np.ndarray, right: np.ndarray, objects: int) -> Curve:
    """The curve of detections with these scores (N,), of which `right` (N,) bool are true positives.

    >>> curve_of(np.array([0.9, 0.5, 0.5]), np.array([True, False, True]), 4).recall
    array([0.25, 0.5 ])
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], right[order].cumsum()
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of equal scores: a threshold takes all or none
    return Curve(scores[last], hits[last], last + 1, objects)


def overall_curve(errors: ErrorAnalysis) -> Curve:
    """The curve of the detections of all classes together, at IoU 0.5."""
    return _curve(errors, errors.counts, len(errors.object_labels))


def class_curves(errors: ErrorAnalysis, classes: int) -> Iterator[Curve]:
    """The curve of each class, at IoU 0.5."""
    for label in range(classes):
        yield _curve(errors, errors.counts & (errors.labels == label), int((errors.object_labels == label).sum()))


def _curve(errors: ErrorAnalysis, rows: np.ndarray, objects: int) -> Curve:
    return curve_of(errors.scores[rows], errors.kind[rows] == RIGHT, objects)


def choose_thresholds(errors: ErrorAnalysis, names: Sequence[str], target: Target) -> Thresholds:
    """The thresholds of all classes together and of each class for a target."""
    classes = [target.choose(one) for one in class_curves(errors, len(names))]
    return Thresholds(target, target.choose(overall_curve(errors)), names, classes)


def conf_below(scores: np.ndarray, k: int) -> float:
    """A short threshold between the k-th of some falling scores and the next, so that it can be typed.

    It is near their middle, with as few digits as that takes.

    >>> conf_below(np.array([0.61372, 0.59871]), 0)
    0.61
    """
    high = float(scores[k])
    low = float(scores[k + 1]) if k + 1 < len(scores) else 0.9 * high
    middle = (high + low) / 2
    return next((n for digits in range(2, 7) if low < (n := round(middle, digits)) < high), middle)


def interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson, 1927): how far it may be off for so few detections or objects.

    >>> interval(9, 10)
    (0.59..., 0.98...)
    """
    if not total:
        return 0.0, 1.0
    share, z2 = right / total, _Z**2 / total
    middle, half = share + z2 / 2, _Z * math.sqrt(share * (1 - share) / total + z2 / 4 / total)
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding alone moves them past the share
