"""The report's section on a detector: curves, classes, error kinds, box sizes and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detect.api import Detector
from detect.data.annotations import Annotations, known_sizes
from detect.data_check.findings import anchors_of, facts
from detect.evaluation.tide import KINDS, Judged, budget, confusion, curves, judge
from detect.report.examples import show
from detect.report.html import Page
from detect.tasks.base import Evaluation, numbers

MATRIX = 30  # classes up to which the confusion matrix is shown


def detection_section(page: Page, evaluation: Evaluation, detector: Detector) -> None:
    """Everything about boxes: metrics, curves, classes, errors, sizes, examples."""
    store, evaluator = evaluation.annotations, evaluation.evaluator
    result = evaluator.result()
    values = numbers(result)
    page.table(list(values), [list(values.values())])
    records = getattr(evaluator, "boxes", evaluator).records()
    judged = judge(store, records)
    lines = list(curves(judged, len(store.names)))
    conf = _scores(page, store, lines)
    _per_class(page, store, result, lines, conf)
    if len(store.names) <= MATRIX:
        names = [*store.names, "nothing"]
        page.matrix(
            confusion(store, records, conf),
            names,
            names,
            f"objects of each class (rows) by what they were found as (columns), from score {conf:.2f} on, at IoU 0.5; "
            "the last row is found where nothing is, the last column not found",
        )
    _errors(page, judged, len(store.names))
    _sizes(page, store, judged, detector)
    show(page, store, records, judged, conf)


def _scores(page: Page, store: Annotations, lines: Sequence[tuple[np.ndarray, ...]]) -> float:
    """Precision against recall, and F1 against the score asked for; the score at which the mean F1 is highest."""
    levels = np.linspace(0, 1, 101)
    f1s, mean = {}, np.zeros(101)
    known = [i for i in range(len(store.names)) if (store.labels[~store.crowd] == i).any()]
    for i in known:
        scores, precision, recall = lines[i]
        f1 = np.append(0.0, 2 * precision * recall / np.maximum(precision + recall, 1e-12))
        f1s[store.names[i]] = f1[np.searchsorted(-scores, -levels, side="right")]
        mean += f1s[store.names[i]] / len(known)
    shown = known if len(known) <= 10 else []  # more lines than that say nothing
    recalls = {store.names[i]: list(zip(lines[i][2].tolist(), lines[i][1].tolist(), strict=True)) for i in shown}
    recalls |= {} if shown else {"all classes": _pooled(lines)}
    page.curves(recalls, "precision against recall, IoU 0.5", "recall", "precision")
    drawn = {store.names[i]: f1s[store.names[i]] for i in shown} | {"mean of all classes": mean}
    pairs = {name: list(zip(levels.tolist(), values.tolist(), strict=True)) for name, values in drawn.items()}
    page.curves(pairs, "F1 of what scores at least so much, IoU 0.5", "score", "F1")
    best = float(levels[mean.argmax()])
    page.text(f"The mean F1 is highest, {mean.max():.3f}, from score {best:.2f} on: what follows counts from there.")
    return best


def _pooled(lines: Sequence[tuple[np.ndarray, ...]]) -> list[tuple[float, float]]:
    """The mean precision of all classes at 101 levels of recall."""
    levels, total = np.linspace(0, 1, 101), np.zeros(101)
    for _, precision, recall in lines:
        smooth = np.maximum.accumulate(precision[::-1])[::-1]
        total += np.append(smooth, 0.0)[np.searchsorted(recall, levels)] / len(lines)
    return list(zip(levels.tolist(), total.tolist(), strict=True))


def _per_class(
    page: Page, store: Annotations, result: Mapping[str, Any], lines: Sequence[tuple[np.ndarray, ...]], conf: float
) -> None:
    rows: list[tuple[object, ...]] = []
    counts = np.bincount(store.labels[~store.crowd], minlength=len(store.names)).tolist()
    for (scores, precision, recall), (name, ap), count in zip(lines, result["per_class"].items(), counts, strict=True):
        last = int((scores >= conf).sum()) - 1
        both = (float(precision[last]), float(recall[last])) if last >= 0 else (None, 0.0)
        rows.append((name, count, ap, *both))
    page.table(("class", "objects", "AP", "precision", "recall"), rows)


def _errors(page: Page, judged: Judged, classes: int) -> None:
    found = budget(judged, classes)
    page.heading("What the errors cost")
    page.text(
        f"TIDE: AP at IoU 0.5 is {found.ap:.3f}; each kind costs what would be gained if it alone were mended. "
        f"All false positives cost {found.false_positives:.3f}, all false negatives {found.false_negatives:.3f}."
    )
    page.bars(found.costs, "AP that each kind of error costs")
    page.table(("kind", "detections or objects", "costs"), [(k, found.counts[k], found.costs[k]) for k in KINDS])


def _sizes(page: Page, store: Annotations, judged: Judged, detector: Detector) -> None:
    """Box sizes with the anchors, and how many objects of each size are found."""
    page.heading("Sizes")
    size = detector.metadata.size
    seen = facts(store, known_sizes(store), size)
    own = [(row[0], row[1]) for row in detector.model.config.anchors]
    anchors = anchors_of(seen["sides"], 9, size)
    shown = own or [(w, h) for w, h in anchors.get("anchors", [])]
    named = "the model's anchors" if own else "nine anchors by K-means, which this model does not use"
    page.dots({"boxes": seen["sides"].tolist(), named: shown}, f"boxes at {size} px, and {named}", "width", "height")
    if anchors:
        page.text(
            f"Nine anchors reach a mean IoU of {anchors['mean_iou']:.3f} and a recall of {anchors['recall']:.3f}."
        )
    sides = np.sqrt(seen["sides"].prod(1))
    if len(sides) == len(judged.found) and len(sides):
        edges = np.quantile(sides, np.linspace(0, 1, 9))
        place = np.clip(np.searchsorted(edges, sides, side="right") - 1, 0, 7)
        line = [
            (float(sides[place == k].mean()), float(judged.found[place == k].mean()))
            for k in range(8)
            if (place == k).any()
        ]
        page.curves({"": line}, f"share of objects found, by the side of their box at {size} px", "side", "found")
