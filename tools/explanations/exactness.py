"""How an image lies on its canvas, and how far boxes are off that come back by a rule that ignores rounding."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from detect.data.letterbox import Letterbox
from tools.drawing import FRAME, LETTER, chart, photograph, sheet, write

SIZE = 320


def canvas() -> np.ndarray:
    """A photograph and its canvas, with one box on both and the numbers of the letterbox."""
    photo = photograph("china", 333).copy()
    fit = Letterbox.fit((photo.shape[0], photo.shape[1]), SIZE, square=True)
    placed = fit.apply(photo)
    box = torch.tensor([[110.0, 60.0, 250.0, 170.0]])
    tiles = []
    for title, image, (x1, y1, x2, y2) in (
        (f"image, {photo.shape[1]} × {photo.shape[0]}", photo, box[0].tolist()),
        (f"canvas, {SIZE} × {SIZE}", placed, fit.forward(box)[0].tolist()),
    ):
        cv2.rectangle(image, (round(x1), round(y1)), (round(x2), round(y2)), (255, 220, 0), 2)
        write(image, f"{x1:.2f}, {y1:.2f}", (round(x1), round(y1) - LETTER - 4), color=(255, 255, 255))
        tiles.append((title, image))
    note = np.full((SIZE, 300, 3), 255, np.uint8)
    text = f"""scale x  {fit.inner[1]} / {photo.shape[1]} = {fit.scale[0]:.6f}
scale y  {fit.inner[0]} / {photo.shape[0]} = {fit.scale[1]:.6f}
left  {fit.left} px
top  {fit.top} px
x' = x · scale x + left
y' = y · scale y + top
back: x = (x' − left) / scale x"""
    for i, line in enumerate(text.split("\n")):
        write(note, line, (12, 14 + 30 * i))
    cv2.rectangle(note, (0, 0), (299, SIZE - 1), FRAME, 1)
    return sheet([*tiles, ("its letterbox", note)], 3)


def errors() -> np.ndarray:
    """The largest error of a corner, there and back, by image width, by two rules to go back."""
    rows: list[dict[str, Any]] = []
    for width in range(600, 1921, 4):
        height = round(width * 0.667)
        fit = Letterbox.fit((height, width), SIZE, square=True)
        corners = torch.tensor([[0.0, 0, width, height], [width / 3, height / 3, width / 2, height / 2]])
        there = fit.forward(corners)
        scale = min(SIZE / height, SIZE / width)
        padding = torch.tensor([(SIZE - width * scale) / 2, (SIZE - height * scale) / 2] * 2)
        for rule, back in (("rounding ignored", (there - padding) / scale), ("exact", fit.undo(there))):
            rows.append({"width": width, "error": float((back - corners).abs().max()), "inverse": rule})
    encoding = {
        "x": {"field": "width", "type": "quantitative", "title": "image width (px)", "scale": {"zero": False}},
        "y": {"field": "error", "type": "quantitative", "title": "largest error (px of the image)"},
        "color": {"field": "inverse", "type": "nominal"},
    }
    mark = {"type": "point", "filled": True, "size": 18}
    return chart({"data": {"values": rows}, "mark": mark, "encoding": encoding, "width": 520, "height": 220})


def draw() -> dict[str, np.ndarray]:
    """The figures of the page."""
    return {"exactness_letterbox": canvas(), "exactness_inverse": errors()}
