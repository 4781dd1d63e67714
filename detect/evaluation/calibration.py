"""Calibration: whether of the detections with confidence 0.8 about 80 % are right (Guo et al., 2017, arXiv 1706.04599).

For detectors, "right" is a match at IoU 0.5, as in Küppers et al. (2020), arXiv 2004.13546.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.evaluation.tide import RIGHT

BINS = 10
LEAST = 0.1  # confidence from which detections count: the many below would be most of the mean
ENOUGH = 50  # predictions below which nothing is said of a class


class Bin(NamedTuple):
    """The predictions with a confidence from `low` to `high`: their number, mean confidence, and the share right."""

    low: float
    high: float
    number: int
    confidence: float
    accuracy: float


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = BINS, least: float = 0.0) -> list[Bin]:
    """The bins of a reliability diagram; those without predictions are left out.

    Args:
        scores: confidences (N,), 0 to 1.
        right: whether each prediction is right (N,) bool.
        bins: bins of equal width from 0 to 1.
        least: confidence from which predictions count.
    """
    scores, right = scores[scores >= least], right[scores >= least]
    place = np.minimum((scores * bins).astype(int), bins - 1)
    return [
        Bin(k / bins, (k + 1) / bins, int(one.sum()), float(scores[one].mean()), float(right[one].mean()))
        for k in range(bins)
        if (one := place == k).any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """The expected calibration error: the mean difference of confidence and accuracy, weighted by the bins' counts.

    None without predictions.
    """
    total = sum(one.number for one in bins)
    return sum(one.number * abs(one.confidence - one.accuracy) for one in bins) / total if total else None


class Judged(NamedTuple):
    """Predictions (N,): confidences, labels, and whether each is right; `least` is that from which they count."""

    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    least: float

    def of(self, label: int) -> Judged:
        """Those of one class."""
        rows = self.labels == label
        return Judged(self.scores[rows], self.labels[rows], self.right[rows], self.least)


def judged_detections(evaluator: Any) -> Judged:
    """The detections of an evaluator, right where they match an object of their class at IoU 0.5."""
    errors = evaluator.boxes.errors
    rows = errors.counts
    return Judged(errors.scores[rows], errors.labels[rows], errors.kind[rows] == RIGHT, LEAST)


def judged_classes(evaluator: Any) -> Judged:
    """The most probable class of each crop of an evaluator."""
    records = evaluator.records()
    return Judged(records.scores[:, 0], records.labels[:, 0], evaluator.right(), 0.0)


class Reliability(NamedTuple):
    """How well the confidences of some predictions are calibrated.

    error: the expected calibration error, None without predictions; chance: the error that so many predictions would
    show on average if they were calibrated perfectly; limit: two standard deviations more; bins: the reliability
    diagram.
    """

    error: float | None
    chance: float
    limit: float
    bins: list[Bin]

    @staticmethod
    def of(judged: Judged) -> Reliability:
        """That of predictions."""
        bins = reliability(judged.scores, judged.right, least=judged.least)
        total = sum(one.number for one in bins)
        # The deviation of a binomial share is nearly half-normal.
        spread = [math.sqrt(one.number * max(one.confidence * (1 - one.confidence), 0.0)) / total for one in bins]
        chance = math.sqrt(2 / math.pi) * sum(spread)
        limit = chance + 2 * math.sqrt((1 - 2 / math.pi) * sum(one * one for one in spread))
        return Reliability(calibration_error(bins), chance, limit, bins)

    @property
    def number(self) -> int:
        """How many predictions count."""
        return sum(one.number for one in self.bins)

    @property
    def excess(self) -> float:
        """How far confidences are too high on average; negative where they are too low."""
        return sum(one.number * (one.confidence - one.accuracy) for one in self.bins) / max(self.number, 1)

    @property
    def verdict(self) -> str:
        """What so many predictions allow to say."""
        if self.error is None or self.number < ENOUGH:
            return "undecided: too few"
        if self.error <= self.limit:
            return "within chance"
        return "too high" if self.excess > self.error / 2 else "too low" if -self.excess > self.error / 2 else "off"

    def values(self) -> dict[str, Any]:
        """The numbers as plain values, for a file."""
        return {
            "error": self.error,
            "chance": self.chance,
            "predictions": self.number,
            "verdict": self.verdict,
            "bins": [one._asdict() for one in self.bins],
        }


def calibration_values(judged: Judged, names: Sequence[str]) -> dict[str, Any]:
    """The calibration of all predictions and of each class as plain values, for a file."""
    each = {name: Reliability.of(judged.of(label)).values() for label, name in enumerate(names)}
    return {"least": judged.least, **Reliability.of(judged).values(), "per_class": each}


def calibration_lines(judged: Judged, names: Sequence[str]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of it."""
    yield (
        f"expected calibration error of predictions with a confidence of {judged.least:g} or more (in brackets: what "
        "chance alone would show)"
    )
    for name, some in (("all classes", judged), *((n, judged.of(k)) for k, n in enumerate(names))):
        one = Reliability.of(some)
        error = "  -  " if one.error is None else f"{one.error:.3f} ({one.chance:.3f})"
        yield f"  {name:<24} {error} of {one.number:,}, {one.verdict}"
