"""Transfer learning: what a network learned of five digits helps with the five others, in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from detect.models.backbones.base import Network
from detect.models.layers import layered_network
from tools.digit_crops import accuracy, crops, fit
from tools.drawing import LINE, chart, write

LAYERS = ["conv 16 5 norm=true", "max 2", "conv 32 3 norm=true", "max 2", "conv 64 3 norm=true", "max all"]
EPOCHS, TUNING, EACH, TRIALS = 16, 30, 20, 3  # epochs of both trainings; images of each new class; trials
FROZEN, TUNED, NEW = (200, 200, 200), (158, 188, 218), (253, 174, 97)
PARTS = ("conv 16", "conv 32", "conv 64", "dense")
WAYS = {  # what becomes of each part
    "from scratch": (NEW, NEW, NEW, NEW),
    "all but the last layer frozen": (FROZEN, FROZEN, FROZEN, NEW),
    "early layers frozen": (FROZEN, FROZEN, TUNED, NEW),
    "as initialization": (TUNED, TUNED, TUNED, NEW),
    "cut, the rest replaced": (FROZEN, FROZEN, NEW, NEW),
}


def draw() -> dict[str, np.ndarray]:
    """The ways as a plan, and the accuracy that each reaches with few images."""
    return {"transfer": _plan(), "transfer_accuracy": _accuracy()}


def _plan() -> np.ndarray:
    wide, high, left = 110, 34, 260
    canvas = np.full((LINE + 10 + len(WAYS) * (high + 10), left + 4 * (wide + 8), 3), 255, np.uint8)
    for i, part in enumerate(PARTS):
        write(canvas, part, (left + i * (wide + 8), 2))
    for row, (way, colors) in enumerate(WAYS.items()):
        y = LINE + 8 + row * (high + 10)
        write(canvas, way, (6, y + 6))
        for i, color in enumerate(colors):
            x = left + i * (wide + 8)
            cv2.rectangle(canvas, (x, y), (x + wide, y + high), color, -1)
            write(canvas, {FROZEN: "frozen", TUNED: "fine-tuned", NEW: "new"}[color], (x + 8, y + 8), 14)
    return canvas


def part(split: str, new: bool) -> tuple[Tensor, Tensor]:
    """The digits 0 to 4, or the new ones, 5 to 9, as labels 0 to 4."""
    images, labels = crops(split)
    chosen = (labels >= 5) == new
    return images[chosen], labels[chosen] - 5 * new


def few(trial: int) -> tuple[Tensor, Tensor]:
    """Some training images of each new digit, others in each trial."""
    images, labels = part("train", True)
    chosen = torch.cat([torch.where(labels == label)[0][trial * EACH :][:EACH] for label in range(5)])
    return images[chosen], labels[chosen]


def networks(source: Network, trial: int) -> Iterator[tuple[str, nn.Module]]:
    """A network for each of the ways; its trainable parameters are those that require gradients."""
    for way, colors in WAYS.items():
        torch.manual_seed(trial)
        made, fresh = deepcopy(source), layered_network(LAYERS, 5, 3, 32)
        kept = 2 * sum(color != NEW for color in colors)  # each convolution and the pool behind it
        stages = [*made.stages[:kept], *fresh.stages[kept:]]
        whole = nn.Sequential(*stages, made.neck, nn.Linear(64, 5))
        frozen = 2 * sum(color == FROZEN for color in colors)
        for stage in list(whole)[:frozen]:
            stage.requires_grad_(False)
        yield way, whole


def _accuracy() -> np.ndarray:
    torch.manual_seed(0)
    source = layered_network(LAYERS, 5, 3, 32)
    fit(lambda x: source(x).logits, list(source.parameters()), EPOCHS, 0.003, part("train", False))
    found = dict.fromkeys(WAYS, 0.0)
    for trial in range(TRIALS):
        for way, network in networks(source, trial):
            for stage in network.children():
                stage.train(any(p.requires_grad for p in stage.parameters()))  # frozen: also the batch statistics
            fit(network, [p for p in network.parameters() if p.requires_grad], TUNING, 0.002, few(trial))
            found[way] += accuracy(network.eval(), part("val", True)) / TRIALS
    rows = [{"way": way, "accuracy": share} for way, share in found.items()]
    encoding = {
        "y": {"field": "way", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 240}},
        "x": {"field": "accuracy", "type": "quantitative", "axis": {"format": "%"}, "scale": {"domain": [0, 1]}},
    }
    text = {"field": "accuracy", "type": "quantitative", "format": ".0%"}
    layers = [
        {"mark": "bar", "encoding": encoding},
        {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": encoding | {"text": text}},
    ]
    return chart({"data": {"values": rows}, "layer": layers, "width": 360, "height": 150})
