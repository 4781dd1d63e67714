"""The commands: each takes its configuration, does the work and prints what came of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from detect import config as configs
from detect.api import Detector
from detect.cli.applicability import refuse_unused
from detect.config import options
from detect.data.sources.formats import load_data
from detect.data.validate import usable
from detect.embedding.evaluate_pairs import evaluate_pairs
from detect.errors import UserError, one_line
from detect.evaluation.evaluate import evaluate_one, say_cuts, say_left_out
from detect.evaluation.evaluate_classes import evaluate_classes
from detect.tasks import TASKS
from detect.training.setup import box_sizes
from detect.training.setup import train as run_training
from detect.types import Classes, Postprocess
from detect.utils.atomic_io import replace_text
from detect.utils.locks import locked_files, under
from detect.utils.names import say

JUDGES = {"classify": evaluate_classes, "embed": evaluate_pairs}  # by task; of the others `evaluate_one`


def train(config: configs.TrainConfig) -> Path:
    """Train, and leave a report in the folder of the run; returns the file of the best weights."""
    best = run_training(config)
    if os.environ.get("RANK", "0") == "0":
        _report(best.parent, config.device)
    return best


def _report(run: Path, device: str) -> None:
    """Write the report of a run that has ended well: what keeps it from being written costs nothing but the report."""
    from detect.report.run_report import report

    try:
        say(f"report: {report(options.ReportConfig(str(run), device))}")
    except (UserError, OSError) as error:
        say(f"no report: {one_line(error)}", sys.stderr)


@under(lambda config: locked_files(config.json, config.detections))
def evaluate(config: options.EvaluateConfig) -> dict[str, Any]:
    """Measure weights on a split as their task is measured: detectors by the COCO protocol."""
    members = [Detector.load(path, config.device, config.precision) for path in config.weights.split(",")]
    tasks = {member.model.task for member in members}
    if len(tasks) > 1:
        raise UserError(f"--weights are of several tasks ({', '.join(sorted(tasks))}): evaluate them one by one")
    refuse_unused("evaluate", config, *tasks)
    return JUDGES.get(members[0].model.task, evaluate_one)(config, members)


def predict(config: options.PredictConfig) -> None:
    """Find objects in a source, or say its classes; leave annotated copies and a json file under --out."""
    from detect.inference.box_embedder import Describer, require_embedder
    from detect.inference.pipeline import predict_to
    from detect.inference.source import open_source
    from detect.inference.writers import ANSWERS
    from detect.tracking.counting import Follow

    detector = Detector.load(config.weights, config.device, config.precision)
    refuse_unused("predict", config, detector.model.task)
    kind = TASKS[detector.model.task].answer
    if kind not in ANSWERS:
        raise UserError(f"{config.weights} is an embedder: its commands are detect embed, verify and identify")
    least = min(config.conf, config.tracker.low) if config.track else config.conf
    keep = Postprocess(
        least, config.iou, config.max_det, config.agnostic, config.soft, detector.labels(config.classes) or None
    )
    looks = None
    if config.tracker.appearance:
        embedder = Detector.load(config.tracker.appearance, config.device, config.precision)
        require_embedder(embedder, config.tracker.appearance)
        looks = Describer(embedder)
    following = (detector.names, config.tracker, config.lines, config.zones, looks)
    follow = Follow(config.conf, *following) if config.track else None
    source = open_source(config.source, config.vid_stride, config.recursive, config.skip_bad, config.max_pixels)
    predictor = detector.predictor(keep, config.imgsz, config.batch, config.tta, config.tile)
    summary = predict_to(
        source,
        predictor,
        detector.names,
        detector.metadata.category_ids,
        config.out,
        save_txt=config.save_txt,
        save_crop=config.save_crop,
        show=config.show,
        skeleton=[(a, b) for a, b in detector.metadata.skeleton],
        shape=detector.metadata.shape,
        kind=kind,
        say=kind is Classes and not config.json,
        follow=follow,
    )
    if source.left_out and not summary.frames:
        raise UserError(f"nothing could be read; the first: {source.left_out[0]}")
    for line in source.left_out:
        say(f"left out: {line}", sys.stderr)
    if source.hidden:
        say(f"{source.hidden} previews, gain maps or copies in small within the files were not looked at", sys.stderr)
    say_cuts(keep, sys.stderr)
    if config.json:
        print((Path(config.out) / ANSWERS[kind]).read_text(encoding="utf-8"))
    said = ", ".join(f"{count} {name}" for name, count in summary.objects.most_common()) or "nothing"
    say(
        f"{summary.frames} frames: {said}; see {config.out} ({detector.computed(config.imgsz)})",
        sys.stderr if config.json else sys.stdout,
    )


@under(lambda config: locked_files(config.json))
def anchors(config: options.AnchorsConfig) -> dict[str, Any]:
    """Compute anchors; print them in the form that a model configuration takes."""
    from anchors.kmeans import kmeans, mean_iou, recall

    store = load_data(config.data, config.split, config.skip_bad, allow_outside=config.allow_outside)
    store = usable(store, config.skip_bad)
    say_left_out(store)
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
    say(f"# {len(sizes)} boxes of {store.path} at {config.imgsz} px: mean IoU {result['mean_iou']:.4f},")
    say(f"# best possible recall {result['recall']:.4f}")
    say(f"anchors: {json.dumps(result['anchors'])}")
    if config.json:
        replace_text(Path(config.json), json.dumps(result) + "\n")
    return result


@under(lambda config: locked_files(config.json))
def info(config: options.InfoConfig) -> dict[str, Any]:
    """Print the layers of a backbone or model."""
    from detect.explain.summary import describe, table

    result = describe(config.name, config.imgsz, config.classes, config.in_channels, config.dims)
    for line in table(result).split("\n"):
        say(line)
    if config.json:
        replace_text(Path(config.json), json.dumps(result, indent=1) + "\n")
    return result
