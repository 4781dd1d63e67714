"""Depthwise separable convolutions: their cost, and what the width multiplier does to MobileNet."""

from __future__ import annotations

import numpy as np

from detect.explain.summary import describe
from tools.drawing import blocks, chart, sheet

WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.25)


def draw() -> dict[str, np.ndarray]:
    """Both kinds of convolution as boxes, their ratio by channels, and MobileNet by width."""
    return {"separable": _kinds(), "separable_ratio": _ratio(), "separable_width": _width()}


def _kinds() -> np.ndarray:
    normal = [("input", (3, 6, 6)), ("5 filters", (3, 3, 3)), ("output", (5, 4, 4))]
    depthwise = [("input", (3, 6, 6)), ("3 filters", (1, 3, 3)), ("one a channel", (3, 4, 4)), ("5 filters", (3, 1, 1))]
    return sheet(
        [
            ("normal: 4·4 · 3·3·3 · 5 = 2,160 multiplications", blocks(normal, 2.4)),
            (
                "depthwise 4·4 · 3·3 · 3 = 432, pointwise 4·4 · 3 · 5 = 240",
                blocks([*depthwise, ("output", (5, 4, 4))], 2.4),
            ),
        ],
        1,
    )


def cost(inputs: int, outputs: int, size: int, separable: bool) -> float:
    """Multiplications for each pixel of the output."""
    return size * size * inputs + inputs * outputs if separable else size * size * inputs * outputs


def _ratio() -> np.ndarray:
    rows = [
        {
            "output channels": 2**i,
            "share": cost(64, 2**i, size, True) / cost(64, 2**i, size, False),
            "filter": f"{size}×{size}",
        }
        for size in (3, 5, 7)
        for i in range(2, 11)
    ]
    encoding = {
        "x": {"field": "output channels", "type": "quantitative", "scale": {"type": "log", "base": 2}},
        "y": {
            "field": "share",
            "type": "quantitative",
            "title": "share of a normal convolution",
            "axis": {"format": "%"},
        },
        "color": {"field": "filter", "type": "nominal"},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "point": True}, "encoding": encoding}
    return chart(spec | {"width": 360, "height": 190})


def _width() -> np.ndarray:
    rows = []
    for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"):
        for width in WIDTHS:
            one = describe(f"{name}:width={width}")
            rows.append({"network": name, "width": width, "MACs": one["macs"] / 1e6, "parameters": one["params"] / 1e6})
    x = {"field": "width", "type": "quantitative", "title": "width multiplier α"}
    panels = [
        {
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": x,
                "y": {"field": field, "type": "quantitative", "title": f"million {field}"},
                "color": {"field": "network", "type": "nominal"},
            },
            "width": 210,
            "height": 180,
        }
        for field in ("MACs", "parameters")
    ]
    return chart({"data": {"values": rows}, "hconcat": panels})
