"""Ensembles and crops: several networks, or several views of an image, say more together than one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detect.models.class_views import canvas_side, views
from detect.models.layers import layered_network
from tools.digit_crops import crops, fit
from tools.drawing import chart, photograph, sheet

MEMBERS, EPOCHS = 4, 6
LAYERS = ["conv 16 5 norm=true", "max 2", "conv 32 3 norm=true", "max 2", "conv 64 3 norm=true", "max all"]
VIEWS = ("whole", "mirrored", "top left", "top right", "bottom left", "bottom right")


def draw() -> dict[str, np.ndarray]:
    """Accuracy by the number of networks, and the ten views of a photograph."""
    return {"ensembles": _accuracy(), "ensembles_views": _views()}


def _member(seed: int) -> Tensor:
    """Probabilities of the validation digits, by a network that starts from this seed."""
    torch.manual_seed(seed)
    network = layered_network(LAYERS, 10, 3, 32)
    fit(lambda x: network(x).logits, list(network.parameters()), EPOCHS, 0.003)
    with torch.inference_mode():
        scores: Tensor = network.eval()(crops("val")[0]).logits.softmax(1)
    return scores


def _accuracy() -> np.ndarray:
    every, labels = torch.stack([_member(seed) for seed in range(MEMBERS)]), crops("val")[1]

    def right(scores: Tensor) -> float:
        return float((scores.argmax(1) == labels).float().mean())

    rows = [{"what": f"network {i + 1}", "accuracy": right(one), "kind": "one"} for i, one in enumerate(every)]
    rows += [
        {"what": f"the first {n} together", "accuracy": right(every[:n].mean(0)), "kind": "mean"}
        for n in range(2, MEMBERS + 1)
    ]
    encoding = {
        "y": {"field": "what", "type": "nominal", "sort": None, "title": None},
        "x": {"field": "accuracy", "type": "quantitative", "axis": {"format": "%"}, "scale": {"domain": [0, 0.8]}},
        "color": {"field": "kind", "type": "nominal", "legend": None},
    }
    text = {"field": "accuracy", "type": "quantitative", "format": ".1%"}
    layers = [
        {"mark": "bar", "encoding": encoding},
        {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": encoding | {"text": text}},
    ]
    return chart({"data": {"values": rows}, "layer": layers, "width": 380, "height": 180})


def _views() -> np.ndarray:
    side = 150
    canvas = canvas_side(side, 10)
    photo = photograph("china")[20 : 20 + 360, 20 : 20 + 360]
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(image, (canvas, canvas), mode="area").byte()
    tiles = [one[0].permute(1, 2, 0).numpy() for one in views(resized, side, 10)]
    names = [*VIEWS, *(f"{name}, m." for name in VIEWS[2:])]
    return sheet(list(zip(names, tiles, strict=True)), 5)
