"""Draws a mistake: the label dashed, the suggestion solid, the part of the image around them."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from detect.data.annotations import Annotations
from detect.data_check.marked import BLUE, RED, WHITE, draw_frame, draw_tag, side_by_side
from detect.errors import UserError
from detect.mistakes.kinds import Box, Mistake

GREEN = (0, 150, 70)
CONTEXT, LEAST = 2.5, 64  # sides of the boxes that are shown around them; pixels that are shown at least
DASH = 6  # pixels


def drawn(one: Mistake, annotations: Annotations, side: int) -> np.ndarray | None:
    """Return the part of an image (H, W, 3) around a mistake; None if the image cannot be read.

    Other labels are thin and blue, the wrong one is dashed and red, the suggested one solid and green. Beside it is the
    near duplicate, where the mistake is of one.

    Args:
        one: the mistake.
        annotations: all labels.
        side: pixels of the longer side.
    """
    image = _read(annotations, one.image)
    if image is None:
        return None
    window = _window(one, annotations, image.shape[:2])
    half = _part(one, annotations, one.image, image, window, side)
    other = _read(annotations, one.twin) if one.twin >= 0 else None
    if other is None:
        return half
    scale = np.tile(np.array(other.shape[1::-1]) / image.shape[1::-1], 2)
    return side_by_side([half, _part(None, annotations, one.twin, other, window * scale, side)])


def _read(annotations: Annotations, index: int) -> np.ndarray | None:
    try:
        return annotations.read(index)
    except UserError:
        return None


def _window(one: Mistake, annotations: Annotations, shape: tuple[int, int]) -> np.ndarray:
    """The part x1, y1, x2, y2 of the image that shows the boxes of a mistake and what is around them."""
    boxes = np.array([one.box, *([annotations.boxes[one.row]] if one.row >= 0 else [])])
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    size = np.array(shape[::-1], float)
    half = max(LEAST, CONTEXT * float((high - low).max())) / 2
    low, high = np.clip((low + high) / 2 - half, 0, size), np.clip((low + high) / 2 + half, 0, size)
    return np.concatenate([np.minimum(low, size - 1), np.maximum(high, np.minimum(low, size - 1) + 1)])


def _part(
    one: Mistake | None, annotations: Annotations, index: int, image: np.ndarray, window: np.ndarray, side: int
) -> np.ndarray:
    """The window of an image, with the labels in it and the mistake, if it is of this image."""
    left, top, right, bottom = window.round().astype(int).tolist()
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = side / max(part.shape[:2])
    size = [max(1, round(length * scale)) for length in part.shape[1::-1]]
    canvas = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)

    def place(box: Box | np.ndarray) -> np.ndarray:
        x, y, width, height = box
        return np.array([x - left, y - top, x - left + width, y - top + height]) * scale

    for row in range(int(annotations.starts[index]), int(annotations.starts[index + 1])):
        if one is None or row != one.row:
            draw_frame(canvas, place(annotations.boxes[row]), BLUE, thick=1)
    if one is not None:
        if one.row >= 0:
            dashed(canvas, place(annotations.boxes[one.row]))
            draw_tag(canvas, place(annotations.boxes[one.row]), annotations.names[annotations.labels[one.row]])
        if one.action != "remove":
            draw_frame(canvas, place(one.box), GREEN)
            below = place(one.box)[[0, 3, 2, 3]] + (0, 18, 0, 18)
            draw_tag(canvas, below, annotations.names[one.label], GREEN)
    return canvas


def dashed(canvas: np.ndarray, box: np.ndarray) -> None:
    """Draw a dashed red rectangle x1, y1, x2, y2 on white."""
    height, width = canvas.shape[:2]
    left, top, right, bottom = (
        np.clip(box, (1, 1, 1, 1), (width - 2, height - 2, width - 2, height - 2)).round().astype(int).tolist()
    )
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for color, thick in ((WHITE, 4), (RED, 2)):
        for (x1, y1), (x2, y2) in pairwise(corners):
            length = max(abs(x2 - x1), abs(y2 - y1))
            for start in range(0, length + 1, 2 * DASH):
                ends = [min(one, length) / max(length, 1) for one in (start, start + DASH)]
                a, b = ((round(x1 + (x2 - x1) * t), round(y1 + (y2 - y1) * t)) for t in ends)
                cv2.line(canvas, a, b, color, thick)
