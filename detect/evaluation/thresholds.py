"""Confidence thresholds for a wanted precision or recall: what `detect evaluate` prints, and a copy of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.convert.open import open_model, open_weights
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.operating_points import OperatingPoint, Target, Thresholds, interval
from detect.export.runtime import is_exported
from detect.hub import resolve
from detect.models.weights import save_weights
from detect.types import ConfidenceThresholds
from detect.utils.names import find


def targets_of(config: EvaluateConfig) -> list[Target]:
    """The targets that the options name; the best F1 where thresholds are saved and none is named.

    Raises:
        UserError: thresholds cannot be saved as the options say.
    """
    given = (("precision", config.target_precision), ("recall", config.target_recall))
    targets = [Target(kind, value) for kind, value in given if value is not None]
    out = config.save_thresholds
    if not out:
        return targets
    if len(targets) > 1:
        raise UserError(
            "--save-thresholds keeps one threshold of each class: give --target-precision or --target-recall"
        )
    if Path(out).suffix != ".safetensors":
        raise UserError(f"--save-thresholds {out}: a weights file ends in .safetensors")
    if len(config.weights) > 1:
        raise UserError(
            f"--save-thresholds {out} keeps the thresholds of one model: give one --weights, or leave it out"
        )
    weights = config.weights[0]
    if is_exported(weights):
        raise UserError(
            f"{weights} is an exported file: give --save-thresholds with the weights that it was made of, and export "
            "what it writes"
        )
    if Path(out).exists() and Path(weights).exists() and Path(out).samefile(weights):
        raise UserError(f"--save-thresholds {out} are the --weights themselves: name another file")
    return targets or [Target("F1")]


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
    out, metadata = Path(config.save_thresholds), detector.metadata
    if chosen.overall is None:
        raise UserError("no detection is right at IoU 0.5: there are no thresholds to save; train longer")
    ids = annotations.category_ids.tolist()
    place = find(annotations.names, ids, metadata.names, metadata.category_ids, "the weights file")
    each = [chosen.overall.conf] * len(metadata.names)
    for label, point in zip(place, chosen.classes, strict=True):
        if label >= 0 and point is not None:
            each[label] = point.conf
    path = resolve(config.weights[0])
    model, (_, _, tensors) = open_model(path), open_weights(path)  # the tensors as the file has them: perhaps float16
    basis = f"{chosen.target} on {config.split} of {Path(config.data).name}"
    model.metadata = replace(model.metadata, confidence=ConfidenceThresholds(chosen.overall.conf, each, basis))
    save_weights(out, model, tensors)
    return f"{out}: the weights with these thresholds, which predict, serve and export use where no --conf is given"
