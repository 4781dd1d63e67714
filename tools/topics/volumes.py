"""Volumes: images and filters have channels, every filter makes one channel, and parameters follow from that."""

from __future__ import annotations

import numpy as np
from torch import nn

from tools.drawing import blocks, chart, sheet

LAYERS = {  # what a layer takes and gives, and the layer
    "conv 3×3, 3 → 10": nn.Conv2d(3, 10, 3),
    "conv 5×5, 1 → 6": nn.Conv2d(1, 6, 5),
    "conv 5×5, 3 → 6": nn.Conv2d(3, 6, 5),
    "conv 3×3, 512 → 512": nn.Conv2d(512, 512, 3),
    "dense, 400 → 120": nn.Linear(400, 120),
    "dense, 32·32·3 → 28·28·6": nn.Linear(32 * 32 * 3, 28 * 28 * 6, device="meta"),
    "dense, 7·7·512 → 4096": nn.Linear(7 * 7 * 512, 4096, device="meta"),
}


def draw() -> dict[str, np.ndarray]:
    """What one filter and two filters make of a volume, and the parameters of some layers."""
    one = [("image", (3, 6, 6)), ("a filter", (3, 3, 3)), ("gives", (1, 4, 4))]
    ten = [("image", (3, 6, 6)), ("ten such filters", (3, 3, 3)), ("give", (10, 4, 4)), ("five of 3×3", (10, 3, 3))]
    ten.append(("give", (5, 2, 2)))
    drawn = sheet([("one filter adds over all channels", blocks(one, 3)), ("ten filters make ten", blocks(ten, 3))], 1)
    return {"volumes": drawn, "volumes_parameters": _parameters()}


def _parameters() -> np.ndarray:
    rows = [{"layer": name, "parameters": sum(p.numel() for p in layer.parameters())} for name, layer in LAYERS.items()]
    y = {"field": "layer", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 240}}
    x = {
        "axis": {"grid": False, "format": "~s"},
        "field": "parameters",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [100, 3e9]},
    }
    text = {"field": "parameters", "type": "quantitative", "format": ","}
    bars = {"mark": {"type": "bar"}, "encoding": {"x": x, "x2": {"datum": 100}, "y": y}}
    labels = {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {"x": x, "y": y, "text": text}}
    return chart({"data": {"values": rows}, "layer": [bars, labels], "width": 420, "height": 200})
