"""One object in an image: is it there, where, and which class; a localizer learns all three at once."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from detect.data.toy_images import scene
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.localizer import LocalizerConfig
from detect.types import Target
from tools.drawing import Tile, chart, sheet
from tools.one_object import fit

SIDE, CLASSES, EMPTY = 64, (0, 1, 4), 0.25  # pixels; digits; share of images without one
TRAIN, EPOCHS, SHOWN = 1200, 18, 10
TERMS = {"objectness": "p: is there one?", "box": "box: where?", "classes": "class: which?"}


def draw() -> dict[str, np.ndarray]:
    """What a localizer says of images that it has not seen, and its loss in parts."""
    images, targets = zip(*(_sample("train", i) for i in range(TRAIN)), strict=True)
    torch.manual_seed(0)
    model = build(LocalizerConfig(levels=[3], hidden=[64]), ModelMetadata([str(c) for c in CLASSES], [1, 2, 3], SIDE))
    history = fit(model, torch.stack(images), targets, EPOCHS)
    return {"localization": _answers(model), "localization_loss": _curves(history)}


def _sample(split: str, number: int) -> tuple[Tensor, Target]:
    """An image with one digit, or none."""
    random = np.random.default_rng([("train", "val").index(split), number])
    count = int(random.random() >= EMPTY)
    canvas, digits = scene(split, random, SIDE, count)
    while count and (not digits or digits[0] not in CLASSES):
        canvas, digits = scene(split, random, SIDE, count)
    corners = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in canvas.boxes]).float().reshape(-1, 4)
    labels = torch.tensor([CLASSES.index(digit) for digit in digits]).long()
    crowd = torch.zeros(len(labels), dtype=torch.bool)
    return torch.from_numpy(canvas.pixels()).permute(2, 0, 1), Target(corners, labels, crowd, number, (SIDE, SIDE))


@torch.inference_mode()
def _answers(model: torch.nn.Module) -> np.ndarray:
    """New images with the true box (green) and the predicted one (orange)."""
    tiles: list[Tile] = []
    images, targets = zip(*(_sample("val", i) for i in range(SHOWN)), strict=True)
    raw = model(torch.stack(images))
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        canvas = np.ascontiguousarray(image.permute(1, 2, 0).numpy().repeat(2, 0).repeat(2, 1))
        p = float(raw.presence[i].sigmoid())
        for box in (target.boxes * 2).int().tolist():
            cv2.rectangle(canvas, box[:2], box[2:], (44, 160, 44), 1)
        label = ""
        if p > 0.5:
            box = (raw.boxes[i] * 2).round().int().tolist()
            cv2.rectangle(canvas, box[:2], box[2:], (255, 127, 14), 2)
            label = f", a {CLASSES[int(raw.logits[i].argmax())]}"
        tiles.append((f"p = {p:.2f}{label}", canvas))
    return sheet(tiles, 5)


def _curves(history: list[dict]) -> np.ndarray:
    rows = [{"epoch": i + 1, "loss": terms[k], "part": v} for i, terms in enumerate(history) for k, v in TERMS.items()]
    encoding = {
        "x": {"field": "epoch", "type": "quantitative"},
        "y": {"field": "loss", "type": "quantitative", "title": "weighted loss"},
        "color": {"field": "part", "type": "nominal", "title": "part", "sort": list(TERMS.values())},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding}
    return chart({**spec, "width": 400, "height": 170}, 1.3)
