"""The section of a page on calibration: whether confidences are frequencies."""

from __future__ import annotations

import numpy as np

from detect.evaluation.calibration import calibration_error, reliability
from detect.evaluation.tide import RIGHT, ErrorAnalysis
from detect.report.html import Page

LEAST = 0.1  # confidence from which detections count: the many below would be most of the mean


def calibration_section(page: Page, errors: ErrorAnalysis) -> None:
    """Add the calibration of detections: right is what matches an object of its class at IoU 0.5."""
    counted = errors.counts
    add_reliability(page, errors.scores[counted], errors.kind[counted] == RIGHT, "detections", LEAST)


def add_reliability(
    page: Page, scores: np.ndarray, right: np.ndarray, what: str, least: float = 0.0, means: str = "are right"
) -> None:
    """Add a reliability diagram, its table and the expected calibration error.

    Args:
        page: the page.
        scores: confidences (N,).
        right: whether each prediction is right (N,) bool.
        what: what the predictions are called.
        least: confidence from which they count.
        means: what is true of those that are `right`.
    """
    bins = reliability(scores, right, least=least)
    error = calibration_error(bins)
    if error is None:
        page.text(f"There are no {what} with a confidence of {least:g} or more.")
        return
    total = sum(one.number for one in bins)
    high = sum(one.number * (one.confidence - one.accuracy) for one in bins) / total
    which = f" with a confidence of {least:g} or more" if least else ""
    page.text(
        f"Of {total:,} {what}{which} {sum(one.number * one.accuracy for one in bins) / total:.0%} {means}, and their "
        f"mean confidence is {abs(high):.3f} too {'high' if high > 0 else 'low'}. The expected calibration error is "
        f"{error:.3f} (mean difference of confidence and share over ten bins; 0: a confidence of 0.8 means that 80 % "
        f"{means})."
    )
    page.curves(
        {"measured": [(one.confidence, one.accuracy) for one in bins], "calibrated": [(0.0, 0.0), (1.0, 1.0)]},
        f"share of {what} that {means}, by confidence",
        "confidence",
        "share",
    )
    rows = [(f"{one.low:g} to {one.high:g}", one.number, one.confidence, one.accuracy) for one in bins]
    page.table(("confidence", what, "mean confidence", means), rows)
