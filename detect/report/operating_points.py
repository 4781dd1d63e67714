"""The sections of a page on precision and recall by confidence, and on confidence thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_protocol import Summary
from detect.evaluation.operating_points import LEVELS, Curve, OperatingPoint, Target, interval
from detect.evaluation.protocol import COCO, Protocol
from detect.report.html import Page, Points

LINES = 10  # classes that a chart shows at most: more lines cannot be told apart
POINTS = 200  # of a raw curve
WANTED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # precisions and recalls that the table of thresholds is for
DEFAULT = 0.9  # precision and recall that the table by class is for


def curves_section(
    page: Page,
    names: Sequence[str],
    curves: Sequence[Curve],
    overall: Curve,
    summary: Summary,
    protocol: Protocol = COCO,
) -> None:
    """Plot precision against recall, and precision, recall and F1 against the confidence."""
    shown, which = _shown(summary)
    at = summary.precision[..., 0, -1]  # (T, R, C), -1 for a class without objects
    known = (at > -1).any((0, 1))
    recall = np.linspace(0, 1, at.shape[1])
    if known.any():
        some = {f"IoU {iou:.2f}": at[protocol.at(iou)] for iou in (0.5, 0.75)}
        lines = {name: one[0][:, known].mean(1) for name, one in some.items() if len(one)}
        low, high = protocol.ious[0], protocol.ious[-1]
        lines[f"mean of IoU {low:.2f} to {high:.2f}"] = at[:, :, known].mean((0, 2))
        page.curves(
            {name: _pairs(recall, line) for name, line in lines.items()},
            "precision against recall, mean of all classes: COCO's 101 points, whose mean is the AP",
            "recall",
            "precision",
        )
    half = at[protocol.at(0.5)]
    if len(half):
        by_class = {names[i]: _pairs(recall, half[0, :, i]) for i in shown}
        page.curves(by_class, f"precision against recall at IoU 0.50{which}: COCO's 101 points", "recall", "precision")
    raw = {**{names[i]: curves[i] for i in shown}, "all classes together": overall}  # classes keep their colours
    page.curves(
        {name: _thinned(_pairs(one.recall, one.precision)) for name, one in raw.items()},
        f"precision against recall at IoU 0.50{which}: as measured, from the most confident detection on",
        "recall",
        "precision",
    )
    every = overall.by_level()
    page.curves(
        {{"f1": "F1"}.get(name, name): _pairs(LEVELS, line) for name, line in every.items()},
        "precision, recall and F1 by confidence threshold at IoU 0.50, all classes together",
        "confidence",
    )
    levels = {names[i]: curves[i].by_level() for i in shown}
    for key, title in (("f1", "F1"), ("precision", "precision"), ("recall", "recall")):
        own = {name: _pairs(LEVELS, line[key]) for name, line in levels.items()}
        page.curves(own, f"{title} by confidence threshold at IoU 0.50{which}", "confidence", title)


def _shown(summary: Summary) -> tuple[list[int], str]:
    """The labels of the classes that charts show, and what titles say of them."""
    ap = {i: value for i, value in enumerate(summary.per_class.values()) if value is not None}
    order = sorted(ap, key=lambda i: -ap[i])
    if len(order) <= LINES:
        return sorted(order), ""
    half = LINES // 2
    return [*order[:half], *order[-half:]], f", the {half} classes with the highest and the {half} with the lowest AP"


def _pairs(x: np.ndarray, y: np.ndarray) -> Points:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _thinned(points: Points) -> Points:
    """At most POINTS of the points, evenly chosen, the last one among them."""
    place = np.unique(np.linspace(0, len(points) - 1, min(len(points), POINTS)).round().astype(int))
    return [points[i] for i in place.tolist()]


def thresholds_section(
    page: Page,
    annotations: Annotations,
    curves: Sequence[Curve],
    overall: Curve,
    targets: Sequence[Target],
    split: str,
) -> None:
    """Add the confidence thresholds for wanted precisions and recalls: of all classes together, and of each class."""
    page.text(
        f"Which confidence threshold gives which precision or recall at IoU 0.5. Each is an estimate on {split}: other "
        "images give other values, the more so the fewer objects there are (the interval holds the wanted value in 95 "
        "of 100 such estimates). Weights that keep the threshold of each class for detect predict are written by:"
    )
    page.code("detect evaluate … --target-precision 0.95 --save-thresholds FILE")
    listed = [*targets, Target("F1"), *(Target(kind, value) for kind in ("precision", "recall") for value in WANTED)]
    rows = [_row(target, target.choose(overall), len(annotations)) for target in dict.fromkeys(listed)]
    header = ("wanted", "confidence", "precision", "recall", "95 % interval", "F1", "false per image")
    page.heading("All classes together", 3)
    page.table(header, rows, filter=False)
    wanted = {"precision": DEFAULT, "recall": DEFAULT, **{one.kind: one.value for one in targets}}
    precision, recall = (Target(kind, value) for kind, value in wanted.items())
    page.heading("Each class", 3)
    page.text(
        "Beside each threshold: how many of its detections are right, or how many objects are found, and what the "
        "other one then is. In brackets: the wanted value is not reached, and this comes nearest."
    )
    page.table(
        (
            *("class", "confidence for the best F1", "F1"),
            *(f"for {precision}", "right", "recall"),
            *(f"for {recall}", "found", "precision"),
        ),
        [(name, *_by_class(curve, precision, recall)) for name, curve in zip(annotations.names, curves, strict=True)],
    )


def _row(target: Target, point: OperatingPoint | None, images: int) -> tuple[object, ...]:
    if point is None:
        return (str(target), *[None] * 6)
    low, high = interval(point.right, point.objects if target.kind == "recall" else point.predicted)
    text = "" if target.kind == "F1" else f"{low:.2f} to {high:.2f}"
    wanted, false = str(target) if point.reached else f"{target} (not reached)", point.predicted - point.right
    return (wanted, f"{point.conf:g}", point.precision, point.recall, text, point.f1, false / max(images, 1))


def _by_class(curve: Curve, precision: Target, recall: Target) -> tuple[object, ...]:
    """The cells of a class: thresholds with the counts behind them, so that few objects show."""
    best, right, found = (target.choose(curve) for target in (Target("F1"), precision, recall))
    if best is None or right is None or found is None:
        return (None,) * 8
    return (
        *(f"{best.conf:g}", best.f1),
        *(_conf(right), f"{right.right} of {right.predicted}", right.recall),
        *(_conf(found), f"{found.right} of {found.objects}", found.precision),
    )


def _conf(point: OperatingPoint) -> str:
    return f"{point.conf:g}" if point.reached else f"({point.conf:g})"
