"""The section of a page on calibration: whether confidences are frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detect.evaluation.calibration import ENOUGH, Bin, Judged, Reliability, calibration_error, reliability
from detect.report.html import Page

DIAGRAMS = 12  # classes that have a diagram of their own, those with the most predictions


def calibration_section(page: Page, judged: Judged, names: Sequence[str], what: str) -> None:
    """Add the calibration of predictions: of all, and of each class.

    Args:
        page: the page.
        judged: the predictions.
        names: class names.
        what: what the predictions are called.
    """
    add_reliability(page, judged.scores, judged.right, what, judged.least)
    each = {name: Reliability.of(judged.of(label)) for label, name in enumerate(names)}
    rows = [(name, one.number, one.error, one.chance, one.excess, one.verdict) for name, one in each.items()]
    if len(rows) < 2 or not judged.right.size:
        return
    page.table(
        ("class", what, "calibration error", "by chance", "confidence minus share right", "confidences are"), rows
    )
    page.text(
        f"By chance: the error that so few {what} would show on average if they were calibrated perfectly; an error up "
        f"to two standard deviations above it decides nothing, and so do fewer than {ENOUGH} {what}."
    )
    most = sorted(each, key=lambda name: -each[name].number)[:DIAGRAMS]
    for name, one in each.items():
        if name in most and one.bins:
            title = f"{name}: share of {one.number:,} {what} that are right, by confidence"
            _diagram(page, one.bins, title)
    if len(each) > DIAGRAMS:
        page.text(f"The {DIAGRAMS} classes with the most {what} have a diagram.")


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
    _diagram(page, bins, f"share of {what} that {means}, by confidence")
    rows = [(f"{one.low:g} to {one.high:g}", one.number, one.confidence, one.accuracy) for one in bins]
    page.table(("confidence", what, "mean confidence", means), rows)


def _diagram(page: Page, bins: Sequence[Bin], title: str) -> None:
    lines = {"measured": [(one.confidence, one.accuracy) for one in bins], "calibrated": [(0.0, 0.0), (1.0, 1.0)]}
    page.curves(lines, title, "confidence", "share")
