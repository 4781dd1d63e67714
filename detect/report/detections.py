"""The report's section on a detector: curves, classes, error kinds, box sizes and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations, known_sizes
from detect.data_check.statistics import anchors_of, facts
from detect.evaluation.tide import KINDS, ErrorAnalysis, analyze_errors, confusion, curves, error_costs
from detect.report.examples import show
from detect.report.html import Page
from detect.tasks.base import Evaluation, numbers

MATRIX = 30  # classes up to which the confusion matrix is shown


def detection_section(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    """Add the evaluation of boxes: metrics, curves, classes, errors, sizes and examples."""
    annotations, evaluator = evaluation.annotations, evaluation.evaluator
    result = evaluator.result()
    values = numbers(result)
    page.table(list(values), [list(values.values())])
    records = getattr(evaluator, "boxes", evaluator).records()
    errors = analyze_errors(annotations, records)
    lines = list(curves(errors, len(annotations.names)))
    conf = _scores(page, annotations, lines)
    _per_class(page, annotations, result, lines, conf)
    if len(annotations.names) <= MATRIX:
        names = [*annotations.names, "background"]
        page.matrix(
            confusion(annotations, records, conf),
            names,
            names,
            f"annotated classes (rows) by predicted classes (columns), scores from {conf:.2f}, IoU 0.5; "
            "last row: detections without an object, last column: objects that were missed",
        )
    _errors(page, errors, len(annotations.names))
    _sizes(page, annotations, errors, detector)
    show(page, annotations, records, errors, conf)


def _scores(page: Page, annotations: Annotations, lines: Sequence[tuple[np.ndarray, ...]]) -> float:
    """Plot precision against recall, and F1 against the score threshold; return the threshold of the best mean F1."""
    levels = np.linspace(0, 1, 101)
    f1s, mean = {}, np.zeros(101)
    known = [i for i in range(len(annotations.names)) if (annotations.labels[~annotations.crowd] == i).any()]
    for i in known:
        scores, precision, recall = lines[i]
        f1 = np.append(0.0, 2 * precision * recall / np.maximum(precision + recall, 1e-12))
        f1s[annotations.names[i]] = f1[np.searchsorted(-scores, -levels, side="right")]
        mean += f1s[annotations.names[i]] / len(known)
    shown = known if len(known) <= 10 else []  # more lines cannot be told apart
    recalls = {annotations.names[i]: list(zip(lines[i][2].tolist(), lines[i][1].tolist(), strict=True)) for i in shown}
    recalls |= {} if shown else {"all classes": _mean_precision(lines)}
    page.curves(recalls, "precision against recall, IoU 0.5", "recall", "precision")
    drawn = {annotations.names[i]: f1s[annotations.names[i]] for i in shown} | {"mean of all classes": mean}
    pairs = {name: list(zip(levels.tolist(), values.tolist(), strict=True)) for name, values in drawn.items()}
    page.curves(pairs, "F1 by score threshold, IoU 0.5", "score threshold", "F1")
    best = float(levels[mean.argmax()])
    page.text(f"The mean F1 is highest, {mean.max():.3f}, at score threshold {best:.2f}, used from here on.")
    return best


def _mean_precision(lines: Sequence[tuple[np.ndarray, ...]]) -> list[tuple[float, float]]:
    """The mean precision of all classes at 101 recall levels."""
    levels, total = np.linspace(0, 1, 101), np.zeros(101)
    for _, precision, recall in lines:
        smooth = np.maximum.accumulate(precision[::-1])[::-1]
        total += np.append(smooth, 0.0)[np.searchsorted(recall, levels)] / len(lines)
    return list(zip(levels.tolist(), total.tolist(), strict=True))


def _per_class(
    page: Page,
    annotations: Annotations,
    result: Mapping[str, Any],
    lines: Sequence[tuple[np.ndarray, ...]],
    conf: float,
) -> None:
    rows: list[tuple[object, ...]] = []
    counts = np.bincount(annotations.labels[~annotations.crowd], minlength=len(annotations.names)).tolist()
    for (scores, precision, recall), (name, ap), count in zip(lines, result["per_class"].items(), counts, strict=True):
        last = int((scores >= conf).sum()) - 1
        both = (float(precision[last]), float(recall[last])) if last >= 0 else (None, 0.0)
        rows.append((name, count, ap, *both))
    page.table(("class", "objects", "AP", "precision", "recall"), rows)


def _errors(page: Page, errors: ErrorAnalysis, classes: int) -> None:
    costs = error_costs(errors, classes)
    page.heading("Cost of errors")
    page.text(
        f"TIDE: AP at IoU 0.5 is {costs.ap:.3f}; a kind of error costs the AP that is gained by correcting it alone. "
        f"All false positives cost {costs.false_positives:.3f}, all false negatives {costs.false_negatives:.3f}."
    )
    page.bars(costs.costs, "AP that each kind of error costs")
    page.table(("kind", "detections or objects", "cost"), [(k, costs.counts[k], costs.costs[k]) for k in KINDS])


def _sizes(page: Page, annotations: Annotations, errors: ErrorAnalysis, detector: Detector) -> None:
    """Box sizes with the anchors, and the recall by box size."""
    page.heading("Sizes")
    size = detector.metadata.size
    seen = facts(annotations, known_sizes(annotations), size)
    own = [(row[0], row[1]) for row in getattr(detector.model.config, "anchors", [])]
    anchors = anchors_of(seen["sides"], 9, size)
    shown = own or [(w, h) for w, h in anchors.get("anchors", [])]
    named = "the model's anchors" if own else "nine anchors by K-means (not used by this model)"
    page.dots({"boxes": seen["sides"].tolist(), named: shown}, f"boxes at {size} px, and {named}", "width", "height")
    if anchors:
        page.text(
            f"Nine anchors reach a mean IoU of {anchors['mean_iou']:.3f} and a recall of {anchors['recall']:.3f}."
        )
    sides = np.sqrt(seen["sides"].prod(1))
    if len(sides) == len(errors.found) and len(sides):
        edges = np.quantile(sides, np.linspace(0, 1, 9))
        place = np.clip(np.searchsorted(edges, sides, side="right") - 1, 0, 7)
        line = [
            (float(sides[place == k].mean()), float(errors.found[place == k].mean()))
            for k in range(8)
            if (place == k).any()
        ]
        page.curves({"": line}, f"recall by box side (square root of the area) at {size} px", "side", "recall")
