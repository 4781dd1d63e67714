"""`detect evaluate --save-calibration`: a copy of the weights whose confidences are calibrated on the split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.commands.evaluate import EvaluateConfig
from detect.errors import UserError
from detect.evaluation.calibration import Judged, Reliability, calibration_lines, judged_classes, judged_detections
from detect.evaluation.calibration_fit import best_temperature, fit_calibration
from detect.evaluation.saved_weights import require_copy, write_copy
from detect.models.base import ModelMetadata
from detect.score_calibration import ScoreCalibration
from detect.tasks import Evaluation, Task
from detect.types import ConfidenceThresholds
from detect.utils.names import find

FLAG = "--save-calibration"


def require_calibration(config: EvaluateConfig, metadata: ModelMetadata) -> None:
    """Raise UserError where the options ask for a calibration that cannot be saved."""
    if not config.save_calibration:
        return
    if config.save_thresholds:
        raise UserError(
            f"{FLAG} and --save-thresholds are two steps: calibrate first, then choose thresholds of "
            f"{config.save_calibration}"
        )
    if config.crops > 1:
        raise UserError(f"{FLAG} is for one view of each image, which predict takes: leave --crops {config.crops} out")
    require_copy(config, FLAG, config.save_calibration, "the calibration")
    if metadata.calibration:
        raise UserError(
            f"{config.weights[0]} is calibrated already, on {metadata.calibration.basis}: give {FLAG} with the weights "
            "that it was made of"
        )


def save_calibration(
    config: EvaluateConfig, task: Task, evaluation: Evaluation, metadata: ModelMetadata
) -> Iterator[str]:
    """Write the copy; yields the lines that tell of it.

    Raises:
        UserError: there is nothing to learn from.
    """
    assert task.judged and task.calibrate  # refused for others
    judged, names, basis = task.judged(evaluation.evaluator), names_of(evaluation), _basis(config)
    if not judged.right.any():
        raise UserError(
            f"{FLAG}: no prediction is right on {config.split}: there is nothing to calibrate; train longer"
        )
    calibration, after, notes = task.calibrate(config, evaluation, metadata, basis)
    yield from calibration_lines(judged, names)
    before, now = Reliability.of(judged), Reliability.of(after)
    yield (
        f"after calibration ({calibration.method}): {now.error or 0:.3f}, on the images that it was fitted on; measure "
        f"it on others with --split test and --page or --json (before: {before.error or 0:.3f})"
    )
    yield from notes
    confidence = mapped_thresholds(metadata.confidence, calibration)
    if confidence:
        yield f"the confidence thresholds for {confidence.basis} are calibrated, too: they keep the same detections"
    write_copy(config, config.save_calibration, calibration=calibration, confidence=confidence)
    yield f"{config.save_calibration}: the weights with this calibration, which predict, evaluate, serve and export use"


def names_of(evaluation: Evaluation) -> Sequence[str]:
    """The names of the classes that predictions are labelled with."""
    return getattr(evaluation.evaluator, "names", None) or evaluation.annotations.names


def mapped_thresholds(
    thresholds: ConfidenceThresholds | None, calibration: ScoreCalibration
) -> ConfidenceThresholds | None:
    """The thresholds that keep the same detections after calibration."""
    if thresholds is None or calibration.of_logits:
        return thresholds
    every = np.array([*thresholds.classes, thresholds.overall])
    *classes, overall = calibration.calibrated(every, np.array([*range(len(every) - 1), -1])).tolist()
    return replace(thresholds, classes=classes, overall=overall)


def calibrate_detections(
    config: EvaluateConfig, evaluation: Evaluation, metadata: ModelMetadata, basis: str
) -> tuple[ScoreCalibration, Judged, list[str]]:
    """Fit a map for each class of a detector: `Task.calibrate` of tasks with boxes."""
    annotations, judged = evaluation.annotations, judged_detections(evaluation.evaluator)
    ids = annotations.category_ids.tolist()
    labels = find(annotations.names, ids, metadata.names, metadata.category_ids, "the weights file")
    method = "isotonic" if config.calibration == "auto" else config.calibration
    calibration, pooled = fit_calibration(judged, labels, len(metadata.names), method, basis)
    counted = judged.scores >= judged.least
    scores = calibration.calibrated(judged.scores[counted], np.array(labels)[judged.labels[counted]])
    after = Judged(scores, judged.labels[counted], judged.right[counted], 0.0)
    names = ", ".join(metadata.names[k] for k in pooled[:10]) + (" …" if len(pooled) > 10 else "")
    notes = [f"too few detections for a map of their own, which take that of all classes: {names}"] if pooled else []
    return calibration, after, notes


def calibrate_classes(
    config: EvaluateConfig, evaluation: Evaluation, metadata: ModelMetadata, basis: str
) -> tuple[ScoreCalibration, Judged, list[str]]:
    """Fit the temperature of a classifier's logits by the likelihood of the true classes: `Task.calibrate` of it.

    Raises:
        UserError: another method is asked for.
    """
    if config.calibration == "isotonic":
        raise UserError(
            "--calibration isotonic is for detectors: classifiers take a temperature, which keeps the order"
        )
    evaluator: Any = evaluation.evaluator
    if evaluator.probabilities is None:
        raise UserError(f"{FLAG}: the data has classes that the weights lack: leave them out of {config.split}")
    log, truth = np.log(np.maximum(evaluator.probabilities.astype(np.float64), 1e-30)), evaluator.truth()
    rows = np.arange(len(truth))

    def tempered(temperature: float) -> np.ndarray:
        scaled = log / temperature
        scaled = scaled - scaled.max(1, keepdims=True)
        found: np.ndarray = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        return found

    best = best_temperature(lambda t: -float(tempered(t)[rows, truth].mean()))
    judged = judged_classes(evaluator)
    after = judged._replace(scores=np.exp(tempered(best).max(1)))
    note = f"temperature {best:g}: logits are divided by it, so the order of classes and all accuracies stay"
    return ScoreCalibration("temperature", temperatures=[best], basis=basis, of_logits=True), after, [note]


def _basis(config: EvaluateConfig) -> str:
    return f"{config.split} of {Path(config.data).name}"
