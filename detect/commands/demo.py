"""`detect demo`: the whole job on the embedded dataset: data, anchors, training, evaluation, images, video."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.commands import function_of
from detect.config.constraints import Count, Natural
from detect.errors import UserError
from detect.utils.locks import LOCK, locked_folder, under
from detect.utils.names import say


@dataclass(frozen=True)
class DemoConfig:
    """Run everything on the embedded toy dataset: data, anchors, training, evaluation, annotated images and video."""

    out: str = "runs/demo"
    """Folder to write everything to; it must be empty."""
    epochs: Count = 28
    """Passes over the training set."""
    seed: Natural = 0
    """Seed of the training."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""


SIZE = 160


@under(lambda config: locked_folder(Path(config.out)))
def demo(config: DemoConfig) -> None:
    """Run everything in `out`, and print the metrics and where to look.

    Raises:
        UserError: the folder is not empty.
    """
    from detect.data.toy import build

    started, out = time.monotonic(), Path(config.out)
    if {path.name for path in out.iterdir()} != {LOCK}:
        raise UserError(f"{out} holds something already: remove it, or choose another --out")
    say("1/5 data: handwritten digits in photographs")
    data = build(out / "data")
    say("2/5 anchors")
    boxes = _run("anchors", data=data, imgsz=SIZE, json=out / "anchors.json")
    say(f"3/5 training yolo_n for {config.epochs} epochs")
    flags = {"data": data, "model": "yolo_n", "imgsz": SIZE, "batch": 8, "seed": config.seed, "out": out / "train"}
    digits = {"flip": 0.0, "scale": 0.25}  # a mirrored 2 is no digit, and eight pixels of ink shrink badly
    short = {"epochs": config.epochs, "optim.warmup": 1.0}
    weights = _run("train", **flags, **short, augment=digits, device=config.device)
    say("4/5 evaluation on the validation set")
    files = {"json": out / "metrics.json", "detections": out / "detections.json"}
    result = _run("evaluate", weights=weights, data=data, device=config.device, **files)
    say("5/5 annotated images and video")
    for source, name in ((data / "val", "pictures"), (data / "video.mp4", "video")):
        _run("predict", weights=weights, source=source, device=config.device, out=out / name)
    video = _evaluate_video(weights, data, config.device)
    rows = [
        ("AP on the validation set", f"{result['AP']:.3f}"),
        ("AP50 on the validation set", f"{result['AP50']:.3f}"),
        ("AP50 on the video", f"{video['AP50']:.3f}"),
        ("mean IoU of 9 anchors", f"{boxes['mean_iou']:.3f}"),
        ("seconds in all", f"{time.monotonic() - started:.0f}"),
        ("annotated images", str(out / "pictures")),
        ("annotated video", str(out / "video" / "video.mp4")),
        ("weights", str(weights)),
        ("report, for a browser", str(out / "train" / "report.html")),
        ("metrics, a line an epoch", str(out / "train" / "metrics.jsonl")),
    ]
    for line in ("", *(f"{name:<26} {value}" for name, value in rows)):
        say(line)


def _run(command: str, **flags: Any) -> Any:
    from detect.cli.parser import from_values

    return function_of(command)(from_values(command, flags))


def _evaluate_video(weights: Path, data: Path, device: str) -> dict[str, Any]:
    """Evaluate the weights on the frames of the video: the COCO metrics."""
    from detect.api import Detector
    from detect.data.sources.coco import load_coco
    from detect.evaluation.coco import CocoEvaluator

    evaluator = CocoEvaluator(load_coco(data / "instances_video.json", data))
    for frame, found in Detector.load(weights, device).predict(data / "video.mp4", conf=0.001):
        evaluator.update([int(evaluator.annotations.image_ids[frame.index])], [found])
    return evaluator.result()
