"""What a page says of an evaluation of boxes or masks: the report of a run and `detect evaluate --page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations, known_sizes
from detect.data_check.findings import anchors_of, facts
from detect.evaluation.breakdown import by_aspect, by_brightness, by_crowding, by_size, mean_brightness
from detect.evaluation.calibration import judged_detections
from detect.evaluation.coco_protocol import Records, Summary, number_names
from detect.evaluation.conformal import Guarantee, choose_guarantee, guarantee_text
from detect.evaluation.operating_points import LEVELS, Curve, Target, class_curves, overall_curve
from detect.evaluation.protocol import Protocol
from detect.evaluation.thresholds import targets_of
from detect.evaluation.tide import KINDS, LIMIT, ErrorAnalysis, analyze_errors, confusion, error_costs
from detect.report.calibration import calibration_section
from detect.report.confusions import add_confusions
from detect.report.examples import show
from detect.report.html import Page
from detect.report.operating_points import curves_section, thresholds_section
from detect.tasks.base import Evaluation, numbers

DOTS = 2000  # boxes that a chart shows, some more at most


class Detected(NamedTuple):
    """An evaluation of boxes: annotations, detections, and what the sections of a page are made of.

    curves: of each class; conf: the confidence threshold from which detections count where there must be one.
    """

    annotations: Annotations
    records: Records
    errors: ErrorAnalysis
    summary: Summary
    curves: list[Curve]
    overall: Curve
    conf: float

    @property
    def iou(self) -> str:
        """What decides whether a detection is right: the IoU of masks, of oriented boxes or of boxes."""
        kinds = {"mask IoU": self.records.masks, "rotated IoU": self.records.oriented}
        return next((name for name, column in kinds.items() if column is not None), "IoU")

    @property
    def ap(self) -> str:
        """The name of AP by that IoU."""
        return "AP" if self.records.masks is None else "mask AP"


def detection_section(page: Page, evaluation: Evaluation, detector: Detector | None, config: EvaluateConfig) -> None:
    """Add the evaluation: metrics, curves, thresholds, classes, errors, groups, calibration and examples.

    Where detections have masks, all but the metrics is of masks alone.
    """
    annotations, boxes = evaluation.annotations, evaluation.evaluator.boxes
    _metrics(page, evaluation.evaluator.result() | (boxes.boundary_result() if config.boundary else {}))
    curves, overall = list(class_curves(boxes.errors, len(annotations.names))), overall_curve(boxes.errors)
    targets = [target for target in targets_of(config) if target.kind != "F1"]
    guarantee = choose_guarantee(config, annotations, boxes.errors)
    conf, why = _threshold(annotations, curves, overall, targets, guarantee)
    found = Detected(annotations, boxes.records(), boxes.errors, boxes.summary, curves, overall, conf)
    if found.records.masks is not None:
        page.text("Everything below is of masks: a detection is right where its mask fits.")
    _told(page, found, why)
    page.heading("Precision and recall")
    curves_section(page, annotations.names, curves, overall, found.summary, boxes.protocol)
    page.heading("Classes")
    _classes(page, found)
    page.heading("Confidence thresholds")
    thresholds_section(page, annotations, curves, overall, targets, config.split)
    if guarantee:
        page.heading("With a guarantee", 3)
        for line in guarantee_text(guarantee, config, detector.metadata if detector else None):
            page.text(f"{line[0].upper()}{line[1:]}.")
        false = [(one.predicted - one.right) / len(annotations) for one in guarantee.classes]
        rows = zip(guarantee.names, (one.recall for one in guarantee.classes), false, strict=True)
        page.table(("class", "recall, not guaranteed", "false per image"), list(rows))
    _confusion(page, found)
    _errors(page, found)
    _groups(page, found, boxes.protocol)
    if detector:
        _sizes(page, found, detector)
    page.heading("Calibration")
    calibration_section(page, judged_detections(evaluation.evaluator), annotations.names, "detections")
    show(page, annotations, found.records, found.errors, conf, config.examples)


def _metrics(page: Page, result: Mapping[str, Any]) -> None:
    """The single numbers: a row for boxes, one for masks, one for boundaries; else all in one row."""
    values, prefixes = numbers(result), {"boxes": "", "masks": "mask_", "boundaries": "boundary_"}
    names = number_names(values)
    rows = [(k, *(values[p + name] for name in names)) for k, p in prefixes.items() if f"{p}AP" in values]
    if len(rows) > 1:
        page.table(("", *names), rows)
    else:
        page.table(list(values), [list(values.values())])


def _threshold(
    annotations: Annotations,
    curves: Sequence[Curve],
    overall: Curve,
    targets: Sequence[Target],
    guarantee: Guarantee | None,
) -> tuple[float, str]:
    """The confidence threshold that the page uses, and why: of the guarantee, of the target, or of the best mean F1."""
    if guarantee:
        return guarantee.point.conf, f"chosen for {guarantee.thresholds.target}"
    points = [(one, point) for one in targets if (point := one.choose(overall))]
    if points:
        return points[0][1].conf, f"chosen for {points[0][0]}"
    known = [curve for curve in curves if curve.objects]
    mean = np.mean([curve.by_level()["f1"] for curve in known], 0) if known else np.zeros(len(LEVELS))
    return float(LEVELS[mean.argmax()]), f"where the mean F1 of the classes is highest, {mean.max():.3f}"


def _told(page: Page, found: Detected, why: str) -> None:
    point = found.overall.at(found.conf)
    if point.precision is None or point.recall is None:
        page.text("Nothing is detected, or nothing is annotated: there is no precision or recall to tell of.")
        return
    page.text(
        f"At confidence {found.conf:g}, {why}, {point.predicted:,} detections find {point.recall:.0%} of "
        f"{point.objects:,} objects, and {point.precision:.0%} of them are right ({found.iou} 0.5). Classes, "
        "confusion and images below are at this threshold."
    )


def _classes(page: Page, found: Detected) -> None:
    ap, ap50 = found.summary.per_class, found.summary.per_class_ap50
    rows: list[tuple[object, ...]] = []
    for name, curve in zip(found.annotations.names, found.curves, strict=True):
        point = curve.at(found.conf)
        counts = point.right, point.predicted - point.right, point.objects - point.right
        rows.append(
            (name, point.objects, point.predicted, *counts, point.precision, point.recall, ap[name], ap50[name])
        )
    page.table(
        ("class", "objects", "detections", "TP", "FP", "FN", "precision", "recall", found.ap, f"{found.ap}50"), rows
    )
    at = f"confidence {found.conf:g} and {found.iou} 0.5"
    page.text(f"TP, FP, FN, precision and recall at {at}; AP over all confidences.")


def _confusion(page: Page, found: Detected) -> None:
    page.heading("Confusion")
    names = [*found.annotations.names, "background"]
    counts = confusion(found.annotations, found.records, found.conf)
    page.matrix(
        counts,
        names,
        names,
        f"annotated classes (rows) by predicted classes (columns), scores from {found.conf:g}, {found.iou} 0.5; "
        "last row: detections without an object, last column: objects that were missed; here a detection may match an "
        "object of another class, so counts differ from those of Classes",
    )
    add_confusions(page, found.annotations.names, counts, ("annotated", "detected as", "objects"))


def _errors(page: Page, found: Detected) -> None:
    few = found.records.counts.max(initial=0) <= LIMIT
    errors = found.errors if few else analyze_errors(found.annotations, found.records, LIMIT)
    costs = error_costs(errors, len(found.annotations.names))
    page.heading("Cost of errors")
    page.text(
        f"TIDE: AP at {found.iou} 0.5 is {costs.ap:.3f}, of the {LIMIT} most confident detections of each image "
        f"(COCO's AP50 takes as many of each class); a kind of error costs the AP that is gained by correcting "
        f"it alone. All false positives cost {costs.false_positives:.3f}, all false negatives "
        f"{costs.false_negatives:.3f}."
    )
    page.bars(costs.costs, "AP that each kind of error costs")
    page.table(("kind", "detections or objects", "cost"), [(k, costs.counts[k], costs.costs[k]) for k in KINDS])


def _groups(page: Page, found: Detected, protocol: Protocol) -> None:
    """AP by object size, aspect ratio, crowding and brightness."""
    annotations, records = found.annotations, found.records
    page.heading("What is hard")
    page.text(
        "AP of parts of the split. A group of objects leaves out what belongs to other groups; a group of images is "
        "evaluated alone. Groups of few objects say little."
    )
    parts = {
        "object size": by_size(annotations, found.summary, protocol),
        "aspect ratio (width to height)": by_aspect(annotations, records, protocol),
        "objects in the image": by_crowding(annotations, records, protocol),
        "mean brightness of the image (0 to 255)": by_brightness(
            annotations, records, mean_brightness(annotations), protocol
        ),
    }
    for title, groups in parts.items():
        page.bars({one.name: one.ap for one in groups if one.ap is not None}, f"AP by {title}")
    rows = [(title, *group) for title, groups in parts.items() for group in groups]
    page.table(("by", "group", "objects", "images", "AP", "AP50", "AR100"), rows)


def _sizes(page: Page, found: Detected, detector: Detector) -> None:
    """Box sizes with the anchors, and the recall by box size."""
    annotations, errors, size = found.annotations, found.errors, detector.metadata.size
    page.heading("Sizes")
    seen = facts(annotations, known_sizes(annotations), size)
    own = [(row[0], row[1]) for row in getattr(getattr(detector.model, "config", None), "anchors", [])]
    anchors = anchors_of(seen["sides"], 9, size)
    shown = own or [(w, h) for w, h in anchors.get("anchors", [])]
    named = "the model's anchors" if own else "nine anchors by K-means (not used by this model)"
    if anchors:
        page.text(
            f"Nine anchors reach a mean IoU of {anchors['mean_iou']:.3f} and a recall of {anchors['recall']:.3f}."
        )
    some = seen["sides"][:: max(1, len(seen["sides"]) // DOTS)]
    page.dots({"boxes": some.tolist(), named: shown}, f"boxes at {size} px, and {named}", "width", "height")
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
