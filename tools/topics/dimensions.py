"""Convolution in one, two and three dimensions: a signal and its filter, and the sizes of a network's maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv1d, conv3d

from tools.drawing import chart, enlarged, numbers, shaded, sheet

SIGNAL = [1, 20, 15, 3, 18, 12, 4, 17, 9, 2, 11, 6, 14, 5]  # 14 numbers
FILTER = [1, 3, 10, 3, 1]


def draw() -> dict[str, np.ndarray]:
    """A signal by hand, a heartbeat with two filters, and slices of a volume before and after a filter."""
    output = conv1d(torch.tensor([[SIGNAL]]).float(), torch.tensor([[FILTER]]).float())[0, 0]
    tiles = [("signal: 14 numbers", numbers([SIGNAL], 38)), ("filter: 5", numbers([FILTER], 38))]
    tiles.append(("output: 14 − 5 + 1 = 10", numbers(output[None], 38)))
    return {"dimensions": sheet(tiles, 1), "dimensions_signal": _heartbeat(), "dimensions_volume": _volume()}


def _heartbeat() -> np.ndarray:
    """A made heartbeat, its slow part and its edges."""
    random, t = np.random.default_rng(0), np.arange(400)
    since = (t - 50) % 90.0  # since the last beat
    beat = np.exp(-(((since + 45) % 90 - 45) ** 2) / 16) - 0.25 * np.exp(-((since - 12) ** 2) / 49)
    signal = torch.tensor(beat + 0.08 * random.standard_normal(400)).float()
    filters = {"mean of 9": torch.full((9,), 1 / 9), "edge: −1 0 1": torch.tensor([-1.0, 0.0, 1.0])}
    curves = {"signal": signal} | {name: conv1d(signal[None, None], f[None, None])[0, 0] for name, f in filters.items()}
    rows: list[dict[str, Any]] = []
    for name, values in curves.items():
        rows += [{"t": i, "value": round(value, 3), "name": name} for i, value in enumerate(values.tolist())]
    header = {"labelAngle": 0, "labelAlign": "left"}
    encoding = {
        "x": {"field": "t", "type": "quantitative", "title": "time"},
        "y": {"field": "value", "type": "quantitative", "title": None},
        "row": {"field": "name", "type": "nominal", "title": None, "sort": list(curves), "header": header},
    }
    return chart({"data": {"values": rows}, "mark": "line", "encoding": encoding, "width": 420, "height": 70}, 1.3)


def _volume() -> np.ndarray:
    """Slices of a volume of 14 x 14 x 14 with a ball in it, and of its output for a 5 x 5 x 5 mean: 10 x 10 x 10."""
    z, y, x = np.meshgrid(*[np.arange(14)] * 3, indexing="ij")
    ball = torch.tensor((z - 6.5) ** 2 + (y - 6.5) ** 2 + (x - 6.5) ** 2 < 20).float()
    output = conv3d(ball[None, None], torch.full((1, 1, 5, 5, 5), 1 / 125))[0, 0]
    rows = []
    for text, volume, step in (("14 × 14 × 14", ball, 3), ("10 × 10 × 10", output, 2)):
        for i in range(0, len(volume), step):
            tile = enlarged(shaded(volume[i], top=1), 9)
            rows.append((f"{text}: {i}" if not i else str(i), tile))
    return sheet(rows, 5)
