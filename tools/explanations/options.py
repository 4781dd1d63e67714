"""What the options of training do to images, to the learning rate, and to the loss of a classifier."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect.cli.parser import parse
from detect.config.optim import OptimConfig
from detect.data.toy import build
from detect.models.losses.classes import softmax_cross_entropy
from detect.training.schedules import lr_factor
from tools.drawing import Tile, chart, sheet
from tools.look import annotate, samples

SIDE, POSITION = 160, 3  # of the image in pixels, its position in the order of epoch 0
OFF = {"mosaic": 0, "scale": 0, "translate": 0, "flip": 0, "hue": 0, "saturation": 0, "value": 0}
OPTIONS: tuple[dict[str, Any], ...] = (
    *({}, {"flip": 1}, {"scale": 0.5}, {"translate": 0.2}, {"rotate": 30}, {"shear": 20}, {"perspective": 0.3}),
    *({"warp": 0.05}, {"crop": 1}, {"hue": 0.1}, {"saturation": 0.7}, {"value": 0.4}, {"mosaic": 1}),
    *({"mosaic": 1, "mixup": 1}, {"mosaic": 1, "scale": 0.5}),
)
EPOCHS, STEPS = 100, 20  # of the schedules, and steps in an epoch


def augmentations() -> np.ndarray:
    """The same training image without augmentation, and with one option at a time."""
    tiles: list[Tile] = []
    with tempfile.TemporaryDirectory() as folder:
        data = build(Path(folder) / "toy", train=24, val=1, size=SIDE)
        for options in OPTIONS:
            flags = [f"--augment.{name}={value}" for name, value in (OFF | options).items()]
            config = parse("train", ["--data", str(data), "--imgsz", str(SIDE), *flags])
            ((image, target),), names = samples(config, "train", 0, [POSITION])
            title = "\n".join(f"{name} {value}" for name, value in options.items()) or "as it is"
            tiles.append((title, annotate(image, target, names)))
    return sheet(tiles, 5)


def schedules() -> np.ndarray:
    """The factor on the learning rate, epoch by epoch, of each schedule after the default warm-up of 3 epochs."""
    rows = [
        {"epoch": step / STEPS, "factor": lr_factor(config, step, 3 * STEPS, EPOCHS * STEPS, STEPS), "schedule": name}
        for name in ("cosine", "linear", "piecewise", "exponential", "1/t", "constant")
        for config in [OptimConfig(schedule=name)]
        for step in range(0, EPOCHS * STEPS, 5)
    ]
    return _lines(rows, "epoch", "factor", "schedule", y_title="factor on the learning rate")


def smoothing() -> np.ndarray:
    """The loss of a classifier of ten classes by how far the logit of the right class is above the others."""
    rows = []
    for share in (0.0, 0.1, 0.2):
        for gap in np.linspace(0, 12, 121).tolist():
            logits = torch.zeros(1, 10)
            logits[0, 0] = gap
            loss = softmax_cross_entropy(logits, torch.tensor([0]), torch.ones(1), share)
            rows.append({"gap": gap, "loss": float(loss), "smoothing": str(share)})
    return _lines(rows, "gap", "loss", "smoothing", x_title="logit of the right class above the others")


def averages() -> np.ndarray:
    """A weight that jumps around its mean, its moving average as here, and one whose decay is 0.999 at once."""
    rng, rows, ours, plain = np.random.default_rng(0), [], 0.0, 0.0
    for step in range(3000):
        weight = 1 - math.exp(-step / 200) + 0.25 * float(rng.standard_normal())
        ours += (1 - min(0.999, (1 + step) / (10 + step))) * (weight - ours)
        plain += (1 - 0.999) * (weight - plain)
        if step % 10 == 0:
            values = {"weight": weight, "EMA 0.999, as here": ours, "0.999 from the first step": plain}
            rows += [{"step": step, "value": value, "line": line} for line, value in values.items()]
    return _lines(rows, "step", "value", "line")


def _lines(rows: list[dict[str, Any]], x: str, y: str, by: str, x_title: str = "", y_title: str = "") -> np.ndarray:
    """A chart with a line for each value of `by`."""
    encoding = {
        "x": {"field": x, "type": "quantitative", "title": x_title or x},
        "y": {"field": y, "type": "quantitative", "title": y_title or y},
        "color": {"field": by, "type": "nominal", "sort": None, "legend": {"labelLimit": 240}},
    }
    return chart({"data": {"values": rows}, "mark": "line", "encoding": encoding, "width": 520, "height": 240})


def draw() -> dict[str, np.ndarray]:
    """The figures of the page."""
    return {
        "options_augmentations": augmentations(),
        "options_schedules": schedules(),
        "options_smoothing": smoothing(),
        "options_averages": averages(),
    }
