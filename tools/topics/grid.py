"""The grid of a detector, cell by cell, with two anchors."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from detect.explain.grid_target import grid_target
from tools.drawing import numbers, photograph, sheet, write

SIDE, CELLS, NAMES = 320, 4, ("tower", "tree", "roof")
BOXES = ((62, 52, 176, 262), (262, 150, 319, 300), (98, 52, 140, 112))  # in pixels of the square photograph
LABELS, ANCHORS = (0, 1, 2), ((110.0, 180.0), (48.0, 60.0))
COLORS = ((214, 39, 40), (31, 119, 180), (148, 103, 189))


def draw() -> dict[str, np.ndarray]:
    """The image with its grid, the objectness of both anchors, and the numbers of the cells that hold an object."""
    target = grid_target(torch.tensor(BOXES), torch.tensor(LABELS), SIDE, CELLS, len(NAMES), ANCHORS)
    return {"grid": _image(), "grid_cells": _objectness(target), "grid_numbers": _numbers(target)}


def _image() -> np.ndarray:
    image = cv2.resize(photograph("china")[:, 60:487], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    for at in range(0, SIDE + 1, SIDE // CELLS):
        image[:, min(at, SIDE - 1)] = image[min(at, SIDE - 1)] = 255
    for (left, top, right, bottom), label, color in zip(BOXES, LABELS, COLORS, strict=True):
        cv2.rectangle(image, (left, top), (right, bottom), color, 2)
        cv2.circle(image, ((left + right) // 2, (top + bottom) // 2), 5, color, -1)
        cv2.rectangle(image, (left, top), (left + 40, top + 15), (255, 255, 255), -1)
        write(image, NAMES[label], (left + 3, top), 12, color)
    shapes = np.full((SIDE, 200, 3), 255, np.uint8)
    for (width, height), left in zip(ANCHORS, (14, 138), strict=True):
        corner = (left + int(width), 60 + int(height))
        cv2.rectangle(shapes, (left, 60), corner, (44, 160, 44), 2)
    return sheet([("an image, 4 × 4 cells, centres of objects", image), ("two anchors, 0 and 1", shapes)], 2)


def _objectness(target: torch.Tensor) -> np.ndarray:
    return sheet([(f"objectness of anchor {k}", numbers(target[:, :, k, 0], 44)) for k in range(len(ANCHORS))], 2)


def _numbers(target: torch.Tensor) -> np.ndarray:
    tiles = []
    for row, column, k in target[..., 0].nonzero().tolist():
        values = target[row, column, k]
        text = f"cell ({row}, {column}), anchor {k}: objectness, x, y, width, height, {', '.join(NAMES)}"
        tiles.append((text, numbers(values[None], 72, 2)))
    return sheet(tiles, 1)
