"""1 x 1 convolutions, and the arithmetic of an Inception module."""

from __future__ import annotations

import numpy as np

from tools.drawing import blocks, chart, photograph, sheet

BRANCHES = {  # the first module of GoogLeNet: the channels of each convolution, and its side
    "1×1": [(64, 1)],
    "1×1 → 3×3": [(96, 1), (128, 3)],
    "1×1 → 5×5": [(16, 1), (32, 5)],
    "pool → 1×1": [(32, 1)],
}
SIDE, INPUTS = 28, 192


def multiplications(layers: list[tuple[int, int]], inputs: int = INPUTS, side: int = SIDE) -> int:
    """Multiplications of convolutions (channels, side of the filter) in a row, on maps of `side` pixels."""
    total = 0
    for channels, size in layers:
        total += side * side * size * size * inputs * channels
        inputs = channels
    return total


def draw() -> dict[str, np.ndarray]:
    """What a 1 x 1 filter does to colours, the bottleneck's costs, and the module's branches."""
    return {"inception": _costs(), "inception_module": _module(), "inception_colours": _colours()}


def _costs() -> np.ndarray:
    direct, bottleneck = multiplications([(32, 5)]), multiplications([(16, 1), (32, 5)])
    rows = [("5×5, 192 → 32", "5×5", direct), ("1×1 to 16, then 5×5", "1×1", multiplications([(16, 1)]))]
    rows.append(("1×1 to 16, then 5×5", "5×5", bottleneck - rows[1][2]))
    for naive in (True, False):
        name = "whole module, no 1×1 before" if naive else "whole module"
        rows += [
            (name, branch, multiplications(layers[-1:] if naive else layers)) for branch, layers in BRANCHES.items()
        ]
    values = [{"way": way, "part": part, "millions": count / 1e6} for way, part, count in rows]
    encoding = {
        "y": {"field": "way", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 220}},
        "x": {"field": "millions", "type": "quantitative", "title": "million multiplications"},
        "color": {"field": "part", "type": "nominal", "sort": None},
    }
    return chart({"data": {"values": values}, "mark": "bar", "encoding": encoding, "width": 380, "height": 150})


def _module() -> np.ndarray:
    """The branches as boxes, and the stages of the whole network with the auxiliary classifiers."""
    tiles = []
    for name, layers in BRANCHES.items():
        shapes = [("input", (INPUTS, SIDE, SIDE)), *((f"{f} × {f}", (c, SIDE, SIDE)) for c, f in layers)]
        tiles.append((name, blocks(shapes, 0.55, 26)))
    outputs = sum(layers[-1][0] for layers in BRANCHES.values())
    return sheet([*tiles, ("all four, concatenated", blocks([("output", (outputs, SIDE, SIDE))], 0.55))], 3)


def _colours() -> np.ndarray:
    """A 1 x 1 filter mixes channels: grey, red against green, and a rotation of colours."""
    photo = photograph("flower", 260)
    mixes = {
        "1×1: mean of the channels": [[1 / 3] * 3] * 3,
        "1×1: red minus green": [[1, -1, 0]] * 3,
        "1×1, 3 → 3: channels change places": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    }
    tiles = [("photograph", photo)]
    for name, mix in mixes.items():
        tiles.append((name, np.rint(photo @ np.array(mix).T).clip(0, 255).astype(np.uint8)))
    return sheet(tiles, 2)
