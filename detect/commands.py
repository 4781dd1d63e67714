"""The commands: each takes its configuration, does the work and prints what came of it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

from detect import config as configs
from detect.api import Detector
from detect.data.check import verify
from detect.data.formats import load_data
from detect.data.loader import EvalLoader
from detect.data.store import Annotations
from detect.device import pick_workers
from detect.errors import UserError, unknown
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.measure import detect_all
from detect.evaluation.protocol import NUMBERS
from detect.files import replace_text
from detect.progress import track
from detect.training.setup import box_sizes
from detect.training.setup import train as run_training
from detect.types import Detections, Keep
from detect.unused import refuse_unused


def train(config: configs.TrainConfig) -> Path:
    """Train; returns the file of the best weights."""
    return run_training(config)


def evaluate(config: configs.EvaluateConfig) -> dict[str, Any]:
    """Measure weights on a split: detectors by the COCO protocol, classifiers by what `ClassEvaluator` counts."""
    members = [Detector.load(path, config.device, config.precision) for path in config.weights.split(",")]
    tasks = {member.model.task for member in members}
    if len(tasks) == 1:
        refuse_unused("evaluate", config, *tasks)
    if tasks == {"classify"}:
        from detect.classify import evaluate_classes

        return evaluate_classes(config, members)
    detector, *others = members
    if others:
        raise UserError("several --weights are averaged for classifiers alone")
    store = load_data(config.data, config.split, skip_bad=config.skip_bad)
    store = verify(store, skip_bad=config.skip_bad, decode=False)  # evaluating reads the pixels anyway
    _say_left_out(store)
    if (store.ids == 0).any():
        print(f"{store.path}: annotation id 0 counts as missed, as in pycocotools: number from 1", file=sys.stderr)
    labels = _labels(detector, store)
    keep = Keep(config.conf, config.iou, config.max_det)
    card = detector.card
    loader = EvalLoader(
        store, config.imgsz or card.size, config.batch, card.pixels, pick_workers(config.workers), cache_gb=0.0
    )
    evaluator = CocoEvaluator(store)
    batches = detect_all(detector.model, loader, keep, detector.device, detector.dtype)
    for ids, found in track(batches, len(loader), "evaluate"):
        evaluator.update(ids, [_relabel(one, labels) for one in found])
    result = evaluator.result()
    if config.detections:
        evaluator.write(Path(config.detections))
    _print_numbers(result, f"{config.weights} on {store.path} ({len(store)} images)")
    if config.json:
        replace_text(Path(config.json), json.dumps(result, indent=1) + "\n")
    return result


def _say_left_out(store: Annotations) -> None:
    for line in store.left_out:
        print(f"left out: {line}", file=sys.stderr)


def _labels(detector: Detector, store: Annotations) -> torch.Tensor:
    """For each class of the detector its label in the store, by name; -1 for classes that the store lacks."""
    known = {name: label for label, name in enumerate(store.names)}
    labels = [known.get(name, -1) for name in detector.names]
    lost = [name for name, label in zip(detector.names, labels, strict=True) if label < 0]
    if len(lost) == len(labels):
        raise UserError(f"{store.path} has none of the classes that the weights know: {', '.join(detector.names[:10])}")
    if lost:
        print(f"classes that {store.path} lacks, not counted: {', '.join(lost)}", file=sys.stderr)
    missed = sorted(set(known) - set(detector.names))
    if missed:
        print(f"classes that the weights do not know, AP 0: {', '.join(missed)}", file=sys.stderr)
    return torch.tensor(labels)


def _relabel(found: Detections, labels: torch.Tensor) -> Detections:
    moved = dataclasses.replace(found, labels=labels[found.labels])
    return moved[moved.labels >= 0]


def _print_numbers(result: dict[str, Any], title: str) -> None:
    print(title)
    print("  ".join(f"{name} {result[name]:.3f}" for name in NUMBERS))
    for name, value in result["per_class"].items():
        print(f"  {name:<24} AP {'  -  ' if value is None else f'{value:.3f}'}")


def predict(config: configs.PredictConfig) -> None:
    """Find objects in a source, or say its classes; leave annotated copies and a json file under --out."""
    from detect.infer.job import ANSWERS, predict_to
    from detect.infer.source import open_source

    detector = Detector.load(config.weights, config.device, config.precision)
    task = detector.model.task
    refuse_unused("predict", config, task)
    keep = Keep(config.conf, config.iou, config.max_det, config.agnostic, config.soft, _wanted(config, detector.names))
    source = open_source(config.source, config.vid_stride)
    predictor = detector.predictor(keep, config.imgsz, config.batch)
    summary = predict_to(
        source,
        predictor,
        detector.names,
        detector.card.category_ids,
        config.out,
        save_txt=config.save_txt,
        save_crop=config.save_crop,
        show=config.show,
        skeleton=[(a, b) for a, b in detector.card.skeleton],
        task=task,
        say=not config.json,
    )
    if config.json:
        print((Path(config.out) / ANSWERS[task]).read_text(encoding="utf-8"))
    said = ", ".join(f"{count} {name}" for name, count in summary.objects.most_common()) or "nothing"
    print(f"{summary.frames} frames: {said}; see {config.out}", file=sys.stderr if config.json else sys.stdout)


def _wanted(config: configs.PredictConfig, names: list[str]) -> tuple[int, ...] | None:
    if not config.classes:
        return None
    labels = []
    for one in config.classes:
        if one in names:
            labels.append(names.index(one))
        elif one.isdecimal() and int(one) < len(names):
            labels.append(int(one))
        else:
            raise unknown("class", one, names)
    return tuple(labels)


def anchors(config: configs.AnchorsConfig) -> dict[str, Any]:
    """Compute anchors; print them in the form that a model configuration takes."""
    from anchors.kmeans import kmeans, mean_iou, recall

    store = load_data(config.data, config.split, skip_bad=config.skip_bad)
    _say_left_out(store)
    sizes = box_sizes(store, config.imgsz)
    if not len(sizes):
        raise UserError(f"{store.path} has no boxes to compute anchors from")
    try:
        found = kmeans(sizes, config.k, seed=config.seed)
    except ValueError as error:
        raise UserError(f"{store.path}: {error}") from error
    result = {
        "anchors": [[round(v, 2) for v in row] for row in found.tolist()],
        "mean_iou": float(mean_iou(sizes, found)),
        "recall": float(recall(sizes, found)),
        "imgsz": config.imgsz,
    }
    print(f"# {len(sizes)} boxes of {store.path} at {config.imgsz} px: mean IoU {result['mean_iou']:.4f},")
    print(f"# best possible recall {result['recall']:.4f}")
    print(f"anchors: {json.dumps(result['anchors'])}")
    if config.json:
        replace_text(Path(config.json), json.dumps(result) + "\n")
    return result


def info(config: configs.InfoConfig) -> dict[str, Any]:
    """Print the layers of a backbone or model."""
    from detect.layers import describe, table

    result = describe(config.name, config.imgsz, config.classes, config.in_channels)
    print(table(result))
    if config.json:
        replace_text(Path(config.json), json.dumps(result, indent=1) + "\n")
    return result
