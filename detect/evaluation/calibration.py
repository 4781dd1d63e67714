"""Calibration: whether of the detections with confidence 0.8 about 80 % are right (Guo et al., 2017, arXiv 1706.04599).

For detectors, "right" is a match at IoU 0.5, as in Küppers et al. (2020), arXiv 2004.13546.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 10


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
