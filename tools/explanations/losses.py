"""The losses of boxes and classes as curves, and a distribution of distances that a network has learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from anchors.boxes import KINDS, iou_aligned
from detect.models.losses.boxes import iou_loss
from detect.registry import REGISTRIES
from tools.drawing import chart
from tools.explanations.assignment import outputs, padded

Row = dict[str, Any]
BOX = torch.tensor([100.0, 100.0, 140.0, 140.0])  # 40 x 40 pixels
STEPS = 800  # of the descent
SHOWN = 7  # bins; the others are all but empty
NAMES = {"iou": "IoU", "giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}


def lines(rows: Iterable[Row], x: str, y: str, color: str = "loss", **more: Any) -> Row:
    """A panel with a line for each value of `color`; `more` are further parts of the specification."""
    encoding = {
        "x": {"field": x, "type": "quantitative"},
        "y": {"field": y, "type": "quantitative"},
        "color": {"field": color, "type": "nominal", "sort": None},
        "strokeDash": {"field": color, "type": "nominal", "sort": None},
    }
    panel = {"data": {"values": list(rows)}, "mark": {"type": "line", "strokeWidth": 2.5}, "encoding": encoding}
    return {**panel, "width": 300, "height": 220, **more}


def family() -> np.ndarray:
    """1 - overlap of a box that moves away from its target, and of one that becomes wider in its place."""
    shift = torch.linspace(0, 120, 121)
    moved = BOX + shift[:, None] * torch.tensor([1.0, 0, 1, 0])
    ratio = torch.linspace(1, 6, 101)
    half = 20 * torch.stack([-ratio.sqrt(), -1 / ratio.sqrt(), ratio.sqrt(), 1 / ratio.sqrt()], 1)
    panels = []
    for title, x, values, boxes in (
        ("moved to the right", "pixels", shift, moved),
        ("same centre and area, other shape", "width / height", ratio, 120 + half),
    ):
        rows = [
            {x: float(v), "1 − overlap": float(loss), "loss": NAMES[kind]}
            for kind in KINDS
            for v, loss in zip(values, iou_loss(boxes, BOX.expand_as(boxes), kind), strict=True)
        ]
        panels.append(lines(rows, x, "1 − overlap", title=title))
    return chart({"hconcat": panels})


def descent() -> np.ndarray:
    """The IoU of a box with its target while gradient descent moves it, by the loss that it descends."""
    rows = []
    for kind in KINDS:
        box = torch.tensor([20.0, 60.0, 50.0, 80.0], requires_grad=True)  # 30 x 20 pixels, apart from the target
        for step in range(STEPS + 1):
            if step % 5 == 0:
                rows.append({"step": step, "IoU": float(iou_aligned(box.detach(), BOX)), "loss": NAMES[kind]})
            (slope,) = torch.autograd.grad(iou_loss(box, BOX, kind), box)
            with torch.no_grad():
                box -= 200 * (1 - step / STEPS) ** 2 * slope
    return chart(lines(rows, "step", "IoU", width=560, height=220, title="a box that begins 50 pixels from its target"))


def classes() -> np.ndarray:
    """The losses of one class by its predicted probability: for background, and for an object with the target 0.8."""
    p = torch.linspace(0.005, 0.995, 199)
    panels = []
    for title, target in (("background: target 0", 0.0), ("object: target 0.8", 0.8)):
        rows = [
            {"probability": float(x), "value": float(y), "loss": name}
            for name in ("bce", "focal", "varifocal")
            for x, y in zip(p, REGISTRIES["loss.class"][name](p.logit(), torch.full_like(p, target)), strict=True)
        ]
        panel = lines(rows, "probability", "value", title=title)
        panel["encoding"]["y"]["scale"] = {"type": "log", "domain": [1e-5, 5], "clamp": True}
        panel["encoding"]["y"]["title"] = "loss (logarithmic)"
        panels.append(panel)
    return chart({"hconcat": panels})


def distances() -> np.ndarray:
    """The distributions of the four distances of the prior that fits the first object best, after training on it."""
    found, head = outputs()
    raw, target = found[-1], padded().boxes[0, :1]
    best = int(iou_aligned(head.boxes(raw)[0], target).argmax())
    bins = raw.regression[0, best].unflatten(-1, (4, head.bins)).softmax(-1)
    stride = float(raw.priors.strides[best])
    wanted = raw.at((torch.tensor([0]), torch.tensor([best]))).priors.encode_distances(target)[0]
    panels = []
    for side, shares, distance in zip(("left", "top", "right", "bottom"), bins, wanted.tolist(), strict=True):
        mean = float(shares @ torch.arange(head.bins, dtype=torch.float32))
        rows = [{"bin": i, "probability": float(v)} for i, v in enumerate(shares[:SHOWN])]
        bars = {"mark": {"type": "bar", "width": 14}, "encoding": _axes("bin", "probability"), "data": {"values": rows}}
        rule = {"mark": {"type": "rule", "color": "#d62728", "strokeWidth": 2}, "data": {"values": [{"bin": distance}]}}
        panel = {"layer": [bars, {**rule, "encoding": {"x": {"field": "bin", "type": "quantitative"}}}]}
        title = [side, f"mean {mean:.2f}, target {distance:.2f}"]
        panels.append({**panel, "title": title, "width": 150, "height": 150})
    return chart({"hconcat": panels, "title": f"one prior of stride {stride:g}"})


def _axes(x: str, y: str) -> Row:
    scale = {"domain": [-0.5, SHOWN - 0.5]}
    return {
        "x": {"field": x, "type": "quantitative", "scale": scale, "title": "bin (strides)"},
        "y": {"field": y, "type": "quantitative", "scale": {"domain": [0, 1]}},
    }


def draw() -> dict[str, np.ndarray]:
    """The figures of the page."""
    figures: dict[str, Callable[[], np.ndarray]] = {
        "losses_boxes": family,
        "losses_descent": descent,
        "losses_classes": classes,
        "losses_distances": distances,
    }
    return {name: figure() for name, figure in figures.items()}
