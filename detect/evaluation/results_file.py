"""`detect evaluate --results`: judges a results file that anything made, without weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detect.cli.applicability import refuse_unused
from detect.commands.evaluate import EvaluateConfig
from detect.config.fields import own_options
from detect.errors import UserError
from detect.evaluation.coco_protocol import Records
from detect.evaluation.coco_results import read_list, read_points, read_results
from detect.evaluation.evaluate import open_split, summed_up
from detect.evaluation.protocol_options import protocol_of
from detect.evaluation.uncertainty import against_file
from detect.tasks import Evaluation, get_task
from detect.utils.names import say

OF_WEIGHTS = ("weights", "crops", "save_thresholds", "pairs", "save_calibration")  # mean nothing for a results file
OF_PREDICTION = ("imgsz", "batch", "conf", "iou", "max_det", "tta", "tile", "device", "precision", "workers")
TASKS = {"bbox": "detect", "segm": "segment", "keypoints": "keypoints", "obb": "obb"}
KEYS = {"obb": ("obb", "poly", "corners"), "keypoints": ("keypoints",), "segm": ("segmentation",), "bbox": ("bbox",)}


def evaluate_results(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate the results file of `config`, print the metrics and write the files that it names.

    Raises:
        UserError: the file or the data cannot be used; names the first bad record.
    """
    predicts = config.against and not against_file(config)
    for name in (*OF_WEIGHTS, *(() if predicts else OF_PREDICTION)):
        default = [] if name == "weights" else own_options(EvaluateConfig)[name].default
        if getattr(config, name) != default:
            raise UserError(f"--{name.replace('_', '-')} has no effect on --results: leave it out")
    evaluation, task = judged_file(config, config.results)
    refuse_unused("evaluate", config, task)
    return summed_up(config, get_task(task), evaluation, None, f"{config.results} on {evaluation.source}")


def judged_file(config: EvaluateConfig, name: str, task_name: str = "") -> tuple[Evaluation, str]:
    """The evaluation of a results file on the split of `config`, and the name of its task.

    Args:
        config: the data and the protocol.
        name: the file.
        task_name: the task. Default: that of `--protocol.iou-type`, or of what the first record has.
    """
    path = Path(name)
    entries = read_list(path)
    first: dict[str, Any] = entries[0] if entries and isinstance(entries[0], dict) else {}
    kinds = [kind for kind, keys in KEYS.items() if any(key in first for key in keys)]
    kind = next((kind for kind, task in TASKS.items() if task == task_name), config.protocol.iou_type)
    if kind == "auto":
        kind = kinds[0] if kinds else "bbox"
    if first and kind not in kinds:
        raise UserError(f"{path}: detection 0 has no {' or '.join(KEYS[kind])}, by which it is to be matched")
    task = get_task(TASKS[kind])
    annotations = open_split(config, task)
    left_out: list[str] | None = [] if config.skip_bad else None
    key = next((key for key in KEYS[kind] if key in first), "") if kind != "keypoints" else "bbox"
    records = read_results(annotations, path, key, left_out, kind == "keypoints")
    for line in left_out or ():
        say(f"left out: {line}", sys.stderr)
    evaluator: Any = task.evaluator(annotations)
    points = read_points(annotations, path, records, config.skip_bad) if kind == "keypoints" else None
    evaluator.extend(records if points is None else (records, points))
    limit = protocol_of(config.protocol).limits[-1]
    for line in _beyond(records, limit) if annotations.federation is None else ():
        say(f"{path}: {line}")
    amount = f"{len(annotations)} images, {len(records.scores):,} detections"
    return Evaluation(annotations, evaluator, str(annotations.path), amount), task.name


def _beyond(records: Records, limit: int) -> Iterator[str]:
    """A line that says how many detections do not count, being more than `limit` in an image and class."""
    owner = np.repeat(np.arange(len(records.counts)), records.counts)
    groups, counts = np.unique(np.stack([owner, records.labels]), axis=1, return_counts=True)
    over = counts[counts > limit] - limit
    if len(over):
        images = len(np.unique(groups[0, counts > limit]))
        yield f"{over.sum():,} detections in {images:,} images do not count: an image has {limit} of a class at most"
