"""Predictions for the images of a split, of models that were not trained on them.

Axes: I images, C classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.commands.mistakes import MistakesConfig
from detect.data.annotations import Annotations
from detect.data.sources.formats import load_data
from detect.data.validate import tell_notes, usable, verify
from detect.errors import UserError
from detect.evaluation.coco_protocol import Records
from detect.evaluation.coco_results import read_results
from detect.evaluation.evaluate import evaluated, say_left_out
from detect.mistakes.folds import class_counts, split_folds, train_folds
from detect.tasks import get_task
from detect.types import Postprocess
from detect.utils.names import say
from detect.utils.yaml_files import read_yaml

LOWEST = 0.01  # score below which a prediction tells nothing


class HeldOut(NamedTuple):
    """Predictions for every image, and the classes (C,) bool that their models know."""

    records: Records
    known: np.ndarray


def open_labels(config: MistakesConfig) -> Annotations:
    """Read and check the split whose labels are examined."""
    annotations = load_data(config.data, config.split, config.skip_bad, allow_outside=config.allow_outside)
    annotations = verify(annotations, skip_bad=config.skip_bad, decode=False)
    annotations = usable(annotations, config.skip_bad, learned=True)
    tell_notes(annotations)
    say_left_out(annotations)
    return annotations


def predictions(config: MistakesConfig, annotations: Annotations, groups: np.ndarray) -> HeldOut:
    """Predict by the given weights, or by models that are trained here, fold by fold.

    Args:
        config: the options of the command.
        annotations: those of the split.
        groups: (I,) images of one group are in one fold.
    """
    if config.results:
        records = read_results(annotations, Path(config.results))
        return HeldOut(_boxes(records), np.ones(len(annotations.names), bool))
    if config.weights:
        warn_if_trained_on(config)
        return _predict(config, [(np.arange(len(annotations)), config.weights)], annotations)
    fold_of = split_folds(groups, class_counts(annotations), config.folds, config.seed)
    return _predict(config, train_folds(annotations, fold_of, Path(config.out), _training(config)), annotations)


def _training(config: MistakesConfig) -> dict[str, Any]:
    """The options of `detect train` for a fold."""
    given = {"weights": config.fine_tune, "model": config.model, "imgsz": config.imgsz, "config": config.train_options}
    same = ("epochs", "batch", "seed", "device", "precision", "workers", "skip_bad", "allow_outside")
    return {name: value for name, value in given.items() if value} | {name: getattr(config, name) for name in same}


def _predict(
    config: MistakesConfig, models: Iterable[tuple[np.ndarray, str | Path]], annotations: Annotations
) -> HeldOut:
    """The predictions of each model for its images."""
    parts, known = list[Records](), np.zeros(len(annotations.names), bool)
    for images, weights in models:
        detector = Detector.load(weights, config.device, config.precision)
        task = get_task(detector.model.task)
        if not task.detects_objects:
            raise UserError(f"{weights} is {task.with_article}: detect mistakes takes models that find boxes")
        some = task.outlines(annotations.select(images), True)
        options = EvaluateConfig(
            [str(weights)], config.data, imgsz=config.imgsz, batch=config.batch, conf=LOWEST, workers=config.workers
        )
        found = evaluated(options, detector, some, Postprocess(LOWEST, options.iou, options.max_det))
        parts.append(_boxes(found.boxes.records()))  # type: ignore[attr-defined]
        labels = task.match_classes(detector.metadata, some).numpy()
        known[labels[labels >= 0]] = True
    return HeldOut(Records.join(parts), known)


def _boxes(records: Records) -> Records:
    return records._replace(masks=None, oriented=None)


def warn_if_trained_on(config: MistakesConfig) -> None:
    """Print a warning if the run folder of the weights says that they were trained on this split."""
    run = Path(config.weights).parent / "config.yaml"
    line = "they must not have been trained on these images: a model repeats the labels that it has learned"
    try:
        data = read_yaml(run)["data"]
        same = Path(data).resolve() == Path(config.data).resolve() or data == config.data
    except (UserError, OSError, ValueError, TypeError, KeyError):
        say(f"{config.weights}: {line}", sys.stderr)
        return
    if same and config.split == "train":
        say(f"warning: {config.weights} were trained on this split ({run}): {line}; use --folds instead", sys.stderr)
    elif same and config.split == "val":
        say(f"{config.weights}: this split chose their best epoch, which hides few label errors", sys.stderr)
