"""Confidence thresholds for a wanted precision or recall: what `detect evaluate` prints, and a copy of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.operating_points import OperatingPoint, Target, Thresholds, interval
from detect.evaluation.saved_weights import require_copy, write_copy
from detect.types import ConfidenceThresholds
from detect.utils.names import find


def targets_of(config: EvaluateConfig) -> list[Target]:
    """The targets that the options name; the best F1 where thresholds are saved and neither one nor a guarantee is.

    Raises:
        UserError: thresholds cannot be saved as the options say.
    """
    given = (("precision", config.target_precision), ("recall", config.target_recall))
    targets = [Target(kind, value) for kind, value in given if value is not None]
    out = config.save_thresholds
    if not out:
        return targets
    if len(targets) + bool(config.guarantee) > 1:
        raise UserError(
            "--save-thresholds keeps one threshold of each class: give one of --target-precision, --target-recall and "
            "--guarantee"
        )
    require_copy(config, "--save-thresholds", out, "the thresholds")
    return targets or ([] if config.guarantee else [Target("F1")])


def threshold_lines(chosen: Thresholds, where: str) -> Iterator[str]:
    """The lines that `detect evaluate` prints of thresholds that were chosen on the split `where`."""
    yield (
        f"confidence thresholds for {chosen.target} at IoU 0.5, an estimate on {where} (in brackets: 95 % interval; "
        "other images give other values)"
    )
    for name, point in zip(("all classes", *chosen.names), (chosen.overall, *chosen.classes), strict=True):
        yield f"  {name:<24} {_told(chosen.target, point)}"


def _told(target: Target, point: OperatingPoint | None) -> str:
    if point is None:
        return "none: no detection is right" + (", or nothing is annotated" if target.kind != "precision" else "")
    text = f"conf {point.conf:<6g} {told_values(target, point)}"
    return text if point.reached else f"{text}; {target} is not reached, this is the nearest"


def told_values(target: Target, point: OperatingPoint) -> str:
    """Precision and recall of an operating point, the targeted one with its confidence interval."""
    wanted = target.kind if target.kind == "recall" else "precision"
    low, high = interval(point.right, point.objects if wanted == "recall" else point.predicted)
    texts = {"precision": f"precision {point.precision or 0:.3f}", "recall": f"recall {point.recall or 0:.3f}"}
    texts[wanted] += f" ({low:.2f} to {high:.2f})"
    return "  ".join(texts.values())


def save_thresholds(config: EvaluateConfig, detector: Detector, annotations: Annotations, chosen: Thresholds) -> str:
    """Write a copy of the weights that has the thresholds; returns a line that tells it.

    A class without a right detection, or without annotations, gets the threshold of all classes.

    Raises:
        UserError: no detection is right.
    """
    out, metadata = config.save_thresholds, detector.metadata
    if chosen.overall is None:
        raise UserError("no detection is right at IoU 0.5: there are no thresholds to save; train longer")
    ids = annotations.category_ids.tolist()
    place = find(annotations.names, ids, metadata.names, metadata.category_ids, "the weights file")
    each = [chosen.overall.conf] * len(metadata.names)
    for label, point in zip(place, chosen.classes, strict=True):
        if label >= 0 and point is not None:
            each[label] = point.conf
    basis = f"{chosen.target} on {config.split} of {Path(config.data).name}"
    write_copy(config, out, confidence=ConfidenceThresholds(chosen.overall.conf, each, basis))
    return f"{out}: the weights with these thresholds, which predict, serve and export use where no --conf is given"
