"""Compound scaling: width, depth and side together by one number, φ."""

from __future__ import annotations

import numpy as np

from detect.explain.summary import describe
from detect.models.backbones.efficientnet import PUBLISHED, compound
from tools.drawing import chart

PHIS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


def draw() -> dict[str, np.ndarray]:
    """The multipliers by φ beside those published, and what networks of any φ cost."""
    return {"scaling": _multipliers(), "scaling_cost": _cost()}


def _multipliers() -> np.ndarray:
    rows = []
    for phi in np.arange(-1, 7.01, 0.25):
        scale = compound(float(phi))
        each = {"width": scale.width, "depth": scale.depth, "side": scale.size / 224}
        rows += [{"φ": float(phi), "multiplier": value, "of": name, "way": "formula"} for name, value in each.items()]
    for phi, scale in enumerate(PUBLISHED.values()):
        each = {"width": scale.width, "depth": scale.depth, "side": scale.size / 224}
        rows += [{"φ": phi, "multiplier": value, "of": name, "way": "published"} for name, value in each.items()]
    encoding = {
        "x": {"field": "φ", "type": "quantitative"},
        "y": {"field": "multiplier", "type": "quantitative"},
        "color": {"field": "of", "type": "nominal", "title": None},
    }
    layers = [
        {"mark": mark, "transform": [{"filter": f"datum.way == '{way}'"}], "encoding": encoding}
        for mark, way in (({"type": "line"}, "formula"), ({"type": "point", "filled": True, "size": 60}, "published"))
    ]
    title = "lines: α^φ, β^φ, γ^φ; dots: B0 to B7 as published"
    return chart({"data": {"values": rows}, "layer": layers, "width": 380, "height": 220, "title": title})


def _cost() -> np.ndarray:
    rows = []
    for phi in PHIS:
        one = describe(f"efficientnet_b0:phi={phi}")
        rows.append({"φ": phi, "GMACs": one["macs"] / 1e9, "way": "the network"})
        rows.append({"φ": phi, "GMACs": 0.386 * (1.2 * 1.1**2 * 1.15**2) ** phi, "way": "without rounding"})
    encoding = {
        "x": {"field": "φ", "type": "quantitative"},
        "y": {"field": "GMACs", "type": "quantitative", "title": "billion multiply-accumulates"},
        "color": {"field": "way", "type": "nominal", "title": None},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "point": True}, "encoding": encoding}
    return chart(spec | {"width": 380, "height": 200})
