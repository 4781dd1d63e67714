"""The classic networks: their feature maps as boxes, and what they cost by year."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from detect.explain.summary import describe
from detect.models.backbones import build_network
from detect.models.backbones.base import Network
from tools.drawing import blocks, chart, sheet

YEARS = {
    "alexnet": 2012,
    "nin": 2013,
    "vgg16": 2014,
    "googlenet": 2014,
    "resnet50": 2015,
    "squeezenet1_1": 2016,
    "mobilenet_v1": 2017,
    "mobilenet_v2": 2018,
    "mobilenet_v3_large": 2019,
    "efficientnet_b0": 2019,
    "csp_s": 2020,
}
DRAWN = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet18", "mobilenet_v2")


def draw() -> dict[str, np.ndarray]:
    """Six networks stage by stage, and all of them by year, cost and parameters."""
    return {"networks": sheet([(name, stages(name)) for name in DRAWN], 1), "networks_cost": _cost()}


def outputs(name: str) -> tuple[Network, list[tuple[str, tuple[int, ...]]]]:
    """The network without values, and the shapes (C, H, W) of its input and of the output of each stage."""
    with torch.device("meta"):
        network = build_network(name, 10 if name == "lenet5" else 1000).eval()
        x = torch.empty(1, 3, network.size, network.size)
        shapes: list[tuple[str, tuple[int, ...]]] = [("image", tuple(x.shape[1:]))]
        for i, stage in enumerate(network.stages):
            x = stage(x)
            shapes.append((f"stage {i}", tuple(x.shape[1:])))
    return network, shapes


def stages(name: str) -> np.ndarray:
    """The input, the output of each stage, and the vectors at the end, as boxes."""
    network, shapes = outputs(name)
    dense = [layer for part in (network.neck, network.head) for layer in part.modules() if isinstance(layer, nn.Linear)]
    shapes += [("dense", (layer.out_features,)) for layer in dense]
    return blocks(shapes, 0.32, 16)


def table(name: str) -> str:
    """The network as a Markdown table: a row for each stage, each dense layer and the sum."""
    one, shapes = describe(name), dict(outputs(name)[1])
    rows: dict[str, list[dict[str, Any]]] = {}
    for layer in one["layers"]:
        part, number = [*layer["name"].split("."), ""][:2]
        dense = part != "stages" and layer["type"] in ("Linear", "Conv2d")
        where = f"stage {number}" if part == "stages" else "dense" if dense else ""
        key = f"{where} {layer['name']}" if dense else where
        if where:
            rows.setdefault(key, []).append(layer)
    lines = ["| part | output | parameters | MACs |", "| --- | ---: | ---: | ---: |"]
    for key, layers in rows.items():
        shape = shapes.get(key, layers[-1]["output"])  # where branches meet, the last layer has a part of it
        output = " × ".join(map(str, (*shape[1:], shape[0])))
        sums = (sum(layer[of] for layer in layers) for of in ("params", "macs"))
        name_ = key if key.startswith("stage") else "1 × 1" if len(shape) > 1 else "dense"
        lines.append(f"| {name_} | {output} | " + " | ".join(f"{value:,}" for value in sums) + " |")
    return "\n".join([*lines, f"| all, at {one['imgsz']} px | | {one['params']:,} | {one['macs']:,} |"])


def _cost() -> np.ndarray:
    rows = []
    for name, year in YEARS.items():
        one = describe(name)
        costs = {"million MACs": one["macs"] / 1e6, "million parameters": one["params"] / 1e6}
        rows.append({"network": name, "year": year, **costs})
    x, y = (
        {"field": field, "type": "quantitative", "scale": {"type": "log", "domain": domain}, "axis": {"tickCount": 5}}
        for field, domain in (("million parameters", [1, 300]), ("million MACs", [150, 25000]))
    )
    color = {"field": "year", "type": "quantitative", "scale": {"scheme": "viridis"}, "legend": {"format": "d"}}
    dots = {"mark": {"type": "circle", "size": 90}, "encoding": {"x": x, "y": y, "color": color}}
    text = {"text": {"field": "network"}, "x": x, "y": y}
    labels = {"mark": {"type": "text", "align": "left", "dx": 8, "fontSize": 11}, "encoding": text}
    return chart({"data": {"values": rows}, "layer": [dots, labels], "width": 460, "height": 320})
