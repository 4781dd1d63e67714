"""`detect evaluate`: one set of weights on one split, whatever its task; classifiers have more to say (`classify`)."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.data.loader import EvalLoader
from detect.data.proposals import with_proposals
from detect.data.sources.formats import load_data
from detect.data.validate import tell_notes, usable, verify
from detect.errors import UserError
from detect.evaluation.dataset_pass import detect_all, one_by_one
from detect.tasks import TASKS, Task
from detect.types import Detections, LimitHits, Postprocess
from detect.utils.atomic_io import replace_text
from detect.utils.device import pick_workers
from detect.utils.names import json_text, say
from detect.utils.progress import track


def evaluate_one(config: EvaluateConfig, members: Sequence[Detector]) -> dict[str, Any]:
    """Measure the one member on a split by its task's evaluator; returns and prints what that says."""
    detector = alone(members)
    keep = asked(config, detector)
    store, evaluator = measured(config, detector, keep)
    if config.detections:
        evaluator.write(Path(config.detections))
    result = tell(
        config,
        f"{store.path} ({len(store)} images, {detector.computed(config.imgsz)})",
        evaluator,
        TASKS[detector.model.task].report,
    )
    say_cuts(keep)
    return result


def measured(config: EvaluateConfig, detector: Detector, keep: Postprocess | None = None) -> tuple[Annotations, Any]:
    """The store of the split, and the evaluator of the task with all that the detector finds in it."""
    task = TASKS[detector.model.task]
    store = opened(config, task)
    if detector.model.needs_proposals:
        store = with_proposals(store, Path(config.weights).parent / "proposals")  # where training keeps them
    labels = task.match(detector.metadata, store)
    points = task.points(detector.metadata, store) if task.points else None
    evaluator: Any = task.evaluator(store)
    for ids, found in answers(config, detector, store, keep):
        evaluator.update(ids, [_renamed(one, labels, points) for one in found])
    return store, evaluator


def alone(members: Sequence[Detector]) -> Detector:
    """The one member. Raises UserError where there are more."""
    if len(members) > 1:
        raise UserError("several --weights are averaged for classifiers alone")
    return members[0]


def opened(config: EvaluateConfig, task: Task) -> Annotations:
    """The split, verified but for its pixels, which evaluating reads anyway; says what was left out of it."""
    store = load_data(config.data, config.split, config.skip_bad, task.whole, config.allow_outside)
    store = verify(store, skip_bad=config.skip_bad, decode=False)
    store = usable(store, config.skip_bad, learned=not task.flat)
    tell_notes(store)
    say_left_out(store)
    return store


def tell(config: EvaluateConfig, what: str, evaluator: Any, report: Callable[[Any], Iterable[str]]) -> dict[str, Any]:
    """Print the result of an evaluation on `what`, in the lines of `report`, and write the json asked for."""
    result = evaluator.result()
    for line in (f"{config.weights} on {what}", *report(result)):
        say(line)
    if config.json:
        replace_text(Path(config.json), json_text(result, indent=1) + "\n")
    return result


def asked(config: EvaluateConfig, detector: Detector) -> Postprocess:
    """How an evaluation decodes."""
    task = TASKS[detector.model.task]
    return task.asked(config) if task.asked else dataclasses.replace(task.keep, limit_hits=LimitHits())


def answers(
    config: EvaluateConfig, detector: Detector, store: Annotations, keep: Postprocess | None = None
) -> Iterator[tuple[Any, list[Any]]]:
    """Image ids and what the detector says of them, batch by batch, with a line of progress."""
    task, size = TASKS[detector.model.task], detector.side(config.imgsz)
    keep = keep or asked(config, detector)
    if config.tta or config.tile:  # which need whole pictures
        looks = detector.predictor(keep, size, config.batch, config.tta, config.tile)
        return track(one_by_one(looks, store), len(store), "evaluate")
    square = {"square": detector.model.square} if task.eval_loader is EvalLoader else {}  # others are so anyway
    workers, pixels = pick_workers(config.workers), detector.metadata.pixels
    loader = task.eval_loader(store, size, config.batch, pixels, workers, **square)
    found = detect_all(detector.model, loader, keep, detector.device, detector.dtype)
    return track(found, len(loader), "evaluate")


def say_cuts(keep: Postprocess, file: TextIO | None = None) -> None:
    """One line for each limit that cut something off."""
    for line in keep.limit_hits.lines(keep):
        say(line, file)


def say_left_out(store: Annotations) -> None:
    """One line for each record that was left out on request."""
    for line in store.left_out:
        say(f"left out: {line}", sys.stderr)


def _renamed(found: Detections, labels: torch.Tensor, points: torch.Tensor | None) -> Detections:
    """`found` with the labels of the store, and its keypoints in their order."""
    moved = dataclasses.replace(found, labels=labels[found.labels])
    if points is not None and found.keypoints is not None:
        moved = dataclasses.replace(moved, keypoints=found.keypoints[:, points])
    return moved[moved.labels >= 0]
