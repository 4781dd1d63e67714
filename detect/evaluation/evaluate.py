"""`detect evaluate`: models on one split, by the evaluator of their task."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import torch

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.data.proposals import with_proposals
from detect.data.sources.formats import load_data
from detect.data.validate import tell_notes, usable, verify
from detect.ensemble import Ensemble
from detect.errors import UserError
from detect.evaluation.calibrate import names_of, require_calibration, save_calibration
from detect.evaluation.calibration import calibration_values
from detect.evaluation.conformal import choose_guarantee, guarantee_lines, require_images, wanted_recall
from detect.evaluation.dataset_pass import predict_batches, predict_images
from detect.evaluation.operating_points import choose_thresholds
from detect.evaluation.protocol_options import protocol_lines, told, under
from detect.evaluation.thresholds import save_thresholds, targets_of, threshold_lines
from detect.evaluation.uncertainty import trust
from detect.score_calibration import ScoreCalibration
from detect.semantic import SemanticMap
from detect.tasks import Evaluation, Evaluator, Task, get_task
from detect.types import Detections, Postprocess
from detect.utils.atomic_io import replace_text
from detect.utils.device import pick_workers
from detect.utils.names import json_text, say
from detect.utils.progress import track


def evaluate_models(config: EvaluateConfig, members: Sequence[Detector]) -> dict[str, Any]:
    """Evaluate models of one task, print the metrics and write the files that `config` names.

    Args:
        config: the options of `detect evaluate`.
        members: the models of `config.weights`; several where the task averages them.

    Returns:
        What the task's evaluator gives.

    Raises:
        UserError: the data or the weights cannot be used, or not with one another.
    """
    task, detector = get_task(members[0].model.task), members[0]
    targets_of(config)  # refuses what cannot be done before anything is computed
    wanted_recall(config)
    require_calibration(config, detector.metadata)
    postprocess = task.postprocess(config)
    evaluation = task.evaluate(config, members, postprocess)
    evaluation = evaluation._replace(amount=f"{evaluation.amount}, {detector.computed(config.imgsz)}")
    result = summed_up(config, task, evaluation, detector, f"{', '.join(config.weights)} on {evaluation.source}")
    say_cuts(postprocess)
    return result


def summed_up(
    config: EvaluateConfig, task: Task, evaluation: Evaluation, detector: Detector | None, what: str
) -> dict[str, Any]:
    """Print the metrics of an evaluation, and write the files that `config` names.

    Args:
        config: the options of `detect evaluate`.
        task: that of the evaluation.
        evaluation: the finished evaluation.
        detector: the model; None for a results file.
        what: was evaluated on what.
    """
    targets, changed = targets_of(config), protocol_lines(config.protocol)
    if config.detections:
        evaluation.evaluator.write(Path(config.detections))
    evaluation = under(config.protocol, evaluation)
    annotations, evaluator, _, amount = evaluation
    result: dict[str, Any] = evaluator.result() | (evaluator.boundary_result() if config.boundary else {})
    trusted = trust(config, task, evaluation)
    header = [f"{what} ({amount})", *([f"the protocol is {told(changed)}"] if changed else [])]
    for line in (*header, *task.summary_lines(result)):
        say(line)
    result |= {"protocol": changed} if changed else {}
    result |= trusted.values(annotations)
    for line in trusted.lines(annotations):
        say(line)
    chosen = [choose_thresholds(evaluator.boxes.errors, annotations.names, target) for target in targets]
    for line in chain.from_iterable(threshold_lines(one, config.split) for one in chosen):
        say(line)
    if chosen:
        result["thresholds"] = {one.target.kind: one.values() for one in chosen}
    guarantee = choose_guarantee(config, annotations, evaluator.boxes.errors) if config.guarantee else None
    if guarantee:
        result["guarantee"] = guarantee.values()
        for line in guarantee_lines(guarantee, config, detector.metadata if detector else None):
            say(line)
    if config.save_thresholds:
        assert detector is not None  # refused beside --results
        saved = guarantee.thresholds if guarantee else chosen[0]
        say(save_thresholds(config, detector, annotations, saved))
    if task.judged and config.json:
        result["calibration"] = calibration_values(task.judged(evaluator), names_of(evaluation))
    if config.save_calibration:
        assert detector is not None  # likewise
        for line in save_calibration(config, task, evaluation, detector.metadata):
            say(line)
    if config.page:
        from detect.report.evaluation_page import write_page  # late: few ask for it

        say(f"see {write_page(config, task, evaluation, detector, trusted)}")
    if config.json:
        replace_text(Path(config.json), json_text(result, indent=1) + "\n")
    return result


def evaluate_split(config: EvaluateConfig, members: Sequence[Detector], postprocess: Postprocess) -> Evaluation:
    """Evaluate the one model on a split: `Task.evaluate` of most tasks.

    Raises:
        UserError: there are several models, or the model and the data do not fit.
    """
    detector = only_one(members)
    task = get_task(detector.model.task)
    annotations = open_split(config, task)
    if detector.model.needs_proposals:
        annotations = with_proposals(
            annotations, Path(config.weights[0]).parent / "proposals"
        )  # where training puts them
    evaluator = evaluated(config, detector, annotations, postprocess)
    return Evaluation(annotations, evaluator, str(annotations.path), f"{len(annotations)} images")


def evaluated(
    config: EvaluateConfig, detector: Detector, annotations: Annotations, postprocess: Postprocess
) -> Evaluator:
    """The evaluator of the model's task, which has taken its predictions for every image of the annotations.

    Raises:
        UserError: the classes or keypoints of model and annotations have nothing in common.
    """
    task = get_task(detector.model.task)
    labels = task.match_classes(detector.metadata, annotations)
    points = task.match_keypoints(detector.metadata, annotations) if task.match_keypoints else None
    evaluator = task.evaluator(annotations)
    for ids, results in predictions(config, detector, annotations, postprocess):
        evaluator.update(ids, [relabelled(one, labels, points) for one in results])
    return evaluator


def only_one(members: Sequence[Detector]) -> Detector:
    """The one model. Raises UserError where there are more."""
    if len(members) > 1:
        raise UserError("several --weights are for detectors, classifiers and embedders: give one")
    return members[0]


def open_split(config: EvaluateConfig, task: Task) -> Annotations:
    """The annotations of the split, checked but for the pixels, which evaluation reads anyway.

    Prints what is odd about the files, and what was left out.
    """
    annotations = load_data(config.data, config.split, config.skip_bad, task.image_level_labels, config.allow_outside)
    annotations = verify(annotations, skip_bad=config.skip_bad, decode=False)
    annotations = usable(annotations, config.skip_bad, learned=not task.counts_degenerate_boxes)
    annotations = task.outlines(annotations, config.skip_bad)
    tell_notes(annotations)
    say_left_out(annotations)
    require_images(config, annotations)
    return annotations


def predictions(
    config: EvaluateConfig, detector: Detector, annotations: Annotations, postprocess: Postprocess
) -> Iterator[tuple[Any, list[Any]]]:
    """Image ids with the model's results for them, batch by batch; shows progress."""
    task, size = get_task(detector.model.task), detector.side(config.imgsz)
    if config.conf > EvaluateConfig.conf:  # by default, calibrated confidences are of the detections of before
        postprocess = detector.metadata.of_scores(postprocess)
    if config.tta or config.tile or isinstance(detector, Ensemble):  # which need whole images
        predictor = detector.predictor(postprocess, config.imgsz, config.batch, config.tta, config.tile)
        return track(predict_images(predictor, annotations), len(annotations), "evaluate")
    workers, preprocess = pick_workers(config.workers), detector.metadata.preprocess
    loader = task.eval_loader(annotations, size, config.batch, preprocess, workers, square=detector.model.square)
    results = predict_batches(detector.model, loader, postprocess, detector.device, detector.dtype)
    return track(_calibrated(results, detector.metadata.calibration), len(loader), "evaluate")


def _calibrated(
    batches: Iterable[tuple[Any, list[Any]]], calibration: ScoreCalibration | None
) -> Iterator[tuple[Any, list[Any]]]:
    """Ids and results, with calibrated confidences; in float64, where no two scores become one, so AP is the same."""
    for ids, results in batches:
        yield ids, [calibration.apply(one, torch.float64) for one in results] if calibration else results


def say_cuts(postprocess: Postprocess, file: TextIO | None = None) -> None:
    """Print a line for each limit that left something out."""
    for line in postprocess.limit_hits.lines(postprocess):
        say(line, file)


def say_left_out(annotations: Annotations) -> None:
    """Print a line for each record that was left out on request."""
    for line in annotations.left_out:
        say(f"left out: {line}", sys.stderr)


def relabelled(result: Any, labels: torch.Tensor, points: torch.Tensor | None) -> Any:
    """Results with the labels of the annotations, and their keypoints in that order; those without as they are."""
    if isinstance(result, SemanticMap):
        return result.relabelled(labels)
    if not isinstance(result, Detections):
        return result
    moved = dataclasses.replace(result, labels=labels[result.labels])
    if points is not None and result.keypoints is not None:
        moved = dataclasses.replace(moved, keypoints=result.keypoints[:, points])
    return moved[moved.labels >= 0]
