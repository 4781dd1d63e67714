"""Stride: the filter moves by several pixels, and what is left at the border is rounded away."""

from __future__ import annotations

import cv2
import numpy as np

from detect.explain.edges import filter_image
from tools.drawing import INK, chart, numbers, sheet, write

IMAGE = np.array(
    [
        *([2, 3, 7, 4, 6, 2, 9], [6, 6, 9, 8, 7, 4, 3], [3, 4, 8, 3, 8, 9, 7], [7, 8, 3, 6, 6, 3, 4]),
        *([4, 2, 1, 8, 3, 4, 6], [3, 2, 4, 1, 9, 8, 3], [0, 1, 3, 9, 2, 1, 4]),
    ]
)
FILTER = np.array([[3, 4, 4], [1, 0, 2], [-1, 0, 3]])
CELL = 34
COLORS = ((214, 39, 40), (44, 160, 44), (31, 119, 180), (148, 103, 189))


def draw() -> dict[str, np.ndarray]:
    """The course's example, which pixels a row of windows reads, and the sides that come out."""
    return {"stride": _by_hand(), "stride_rows": _rows(), "stride_sides": _sides()}


def _by_hand() -> np.ndarray:
    image = numbers(IMAGE, CELL)
    for i, color in enumerate(COLORS[:3]):
        x = 2 * i * CELL + 2 * i
        cv2.rectangle(image, (x + 1, 1 + 2 * i), (x + 3 * CELL - 4 * i, 3 * CELL - 2 * i), color, 3)
    tiles = [("7 × 7; the first three windows", image), ("filter 3 × 3", numbers(FILTER, CELL))]
    return sheet([*tiles, ("output 3 × 3", numbers(filter_image(IMAGE, FILTER, stride=2), CELL))], 3)


def _rows() -> np.ndarray:
    """One row of pixels for each of some sides, with the windows that fit below it."""
    tiles = []
    for side, size, stride, padding in ((7, 3, 2, 0), (8, 3, 2, 0), (8, 3, 2, 1), (9, 4, 3, 0)):
        whole = side + 2 * padding
        count = (whole - size) // stride + 1
        strip = np.full((CELL + 16 * count + 6, 11 * CELL, 3), 255, np.uint8)
        for x in range(whole):
            inside, used = padding <= x < whole - padding, x < (count - 1) * stride + size
            color = (255, 255, 255) if inside and used else (253, 200, 160) if inside else (225, 225, 225)
            cv2.rectangle(strip, (x * CELL, 0), ((x + 1) * CELL, CELL), color, -1)
            cv2.rectangle(strip, (x * CELL, 0), ((x + 1) * CELL, CELL), (150, 150, 150), 1)
            write(strip, str(x - padding + 1) if inside else "0", (x * CELL + 12, 7), 14, INK)
        for i in range(count):
            left = i * stride * CELL + 3
            y = CELL + 10 + 16 * i
            cv2.line(strip, (left, y), (left + size * CELL - 6, y), COLORS[i % len(COLORS)], 5)
        text = f"n = {side}, f = {size}, s = {stride}, p = {padding}: {count} windows"
        tiles.append((text + (", orange is not read" if (whole - size) % stride > padding else ""), strip))
    return sheet(tiles, 2)


def _sides() -> np.ndarray:
    rows = [
        {"side of the input": n, "side of the output": (n - 3) // stride + 1, "stride": str(stride)}
        for stride in (1, 2, 3, 4)
        for n in range(3, 25)
    ]
    x, y = ({"field": f"side of the {name}", "type": "quantitative"} for name in ("input", "output"))
    line = {"type": "line", "interpolate": "step-after", "point": True}
    color = {"field": "stride", "type": "nominal"}
    spec = {"data": {"values": rows}, "mark": line, "encoding": {"x": x, "y": y, "color": color}}
    return chart(spec | {"width": 420, "height": 220, "title": "3 × 3 filter, no padding"})
