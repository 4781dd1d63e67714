"""Draws images with the boxes that a finding is about, next to those that it is not about.

Axes: N boxes of an image. Boxes are x1, y1, x2, y2 in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detect.inference.palette import ink_on
from detect.inference.text_rendering import render

RED, BLUE, YELLOW, GREY, WHITE = (230, 30, 40), (70, 160, 255), (255, 210, 0), (205, 205, 205), (255, 255, 255)
REACH = 0.5  # of an image's sides: how far beyond its edges a box that reaches out is followed
SEEN = 28  # pixels: a marked box smaller than this is magnified beside the image
MAGNIFIED = 4.0  # sides of that box in the side of the magnified part
LETTERS = 13  # pixels: height of the letters in tags
GAP = 6  # pixels between images side by side


def marked(
    image: np.ndarray, boxes: np.ndarray, tags: Sequence[str | None], side: int, zoom: bool = True
) -> np.ndarray:
    """Draw boxes into a copy of an image: those with a tag in red, the others thin.

    The copy shows what lies around the image where a box with a tag reaches out of it, and beside it such a box
    magnified if it is too small to be seen.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4).
        tags: of each box: a text to write at it, which may be empty; None for a box that is not marked.
        side: pixels of the longer side of the copy.
        zoom: whether to magnify a small box.
    """
    chosen = np.array([tag is not None for tag in tags], bool)
    window = _window(image.shape[:2], boxes[chosen])
    scale = side / float((window[2:] - window[:2]).max())
    within = boxes.clip(np.tile(window[:2], 2), np.tile(window[2:], 2))
    canvas = _drawn(image, window, scale, np.where(chosen[:, None], within, boxes), tags)
    longest = (within[chosen, 2:] - within[chosen, :2]).max(axis=1)
    if not zoom or not len(longest) or longest.min() * scale >= SEEN:
        return canvas
    box = within[chosen][int(longest.argmin())]
    half = MAGNIFIED / 2 * max(2.0, float(longest.min()))
    part = np.concatenate([(box[:2] + box[2:]) / 2 - half, (box[:2] + box[2:]) / 2 + half])
    pane = min(canvas.shape[0], round(0.6 * side))
    magnified = _drawn(image, part, pane / (2 * half), boxes, [tag if tag is None else "" for tag in tags])
    draw_frame(magnified, np.array([0, 0, *magnified.shape[1::-1]]), YELLOW)
    draw_frame(canvas, (part - np.tile(window[:2], 2)) * scale, YELLOW)
    return side_by_side([canvas, magnified])


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images in a row, on white."""
    height, blank = max(len(image) for image in images), [np.full((1, GAP, 3), 255, np.uint8)]
    row = [part for image in images for part in (*blank, image)][1:]
    return np.hstack([np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=255) for p in row])


def grid(images: Sequence[np.ndarray], cell: int, columns: int) -> np.ndarray:
    """Images in cells of `cell` pixels, row by row, on white."""
    sheet = np.full((cell * -(-len(images) // columns), cell * min(columns, len(images)), 3), 255, np.uint8)
    for n, image in enumerate(images):
        small = _resized(image, (cell - 4) / max(image.shape[:2]))
        top, left = n // columns * cell + 2, n % columns * cell + 2
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    return sheet


def _window(shape: Sequence[int], chosen: np.ndarray) -> np.ndarray:
    """The part (4,) of the plane to show: the image, and beyond its edges what chosen boxes (N, 4) reach."""
    size = np.array(shape[::-1], float)
    low = chosen[:, :2].min(axis=0, initial=0)
    high = np.maximum(chosen[:, 2:].max(axis=0, initial=0), size)
    low, high = low - 0.05 * size * (low < -1), high + 0.05 * size * (high > size + 1)
    return np.concatenate([np.maximum(low, -REACH * size), np.minimum(high, (1 + REACH) * size)])


def _drawn(
    image: np.ndarray, window: np.ndarray, scale: float, boxes: np.ndarray, tags: Sequence[str | None]
) -> np.ndarray:
    """The part of the plane in `window`, (h, w, 3), with the boxes in it; what is not of the image is grey."""
    width, height = np.maximum(1, np.round((window[2:] - window[:2]) * scale)).astype(int)
    moved = np.array([[scale, 0, -scale * window[0]], [0, scale, -scale * window[1]]])
    if scale < 1:  # shrink first: a warp alone would leave pixels out
        small = _resized(image, scale)
        moved[:, :2] = np.diag([scale * image.shape[1] / small.shape[1], scale * image.shape[0] / small.shape[0]])
    else:
        small = image
    canvas = cv2.warpAffine(small, moved, (int(width), int(height)), flags=cv2.INTER_LINEAR, borderValue=GREY)
    places = (boxes - np.tile(window[:2], 2)) * scale
    for box, tag in zip(places, tags, strict=True):
        if tag is None:
            draw_frame(canvas, box, BLUE, thick=1)
    for box, tag in zip(places, tags, strict=True):
        if tag is not None:
            draw_frame(canvas, box, RED)
            draw_tag(canvas, box, tag)
    return canvas


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def draw_frame(canvas: np.ndarray, box: np.ndarray, color: tuple[int, int, int], thick: int = 2) -> None:
    """Draw a box (4,) x1, y1, x2, y2, with a white rim unless it is thin."""
    height, width = canvas.shape[:2]
    left, top, right, bottom = (
        np.clip(np.nan_to_num(box), -9, (width + 9, height + 9, width + 9, height + 9)).round().astype(int)
    )
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if thick > 1:
        cv2.rectangle(canvas, (left, top), (right, bottom), WHITE, thick + 2)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, thick)


def draw_tag(canvas: np.ndarray, box: np.ndarray, text: str, color: tuple[int, int, int] = RED) -> None:
    """Write a text on a bar above the box, or in it where there is no room above."""
    if not text:
        return
    cover = np.pad(render(text[:40], LETTERS), ((0, 0), (4, 4)))[..., None].astype(np.float32) / 255
    bar = (cover * ink_on(color) + (1 - cover) * np.array(color, np.float32)).round().astype(np.uint8)
    height, width = canvas.shape[:2]
    left = int(np.clip(box[0], 0, max(0, width - bar.shape[1])))
    top = int(np.clip(box[1] - len(bar), 0, max(0, height - len(bar))))
    part = canvas[top : top + len(bar), left : left + bar.shape[1]]
    part[:] = bar[: part.shape[0], : part.shape[1]]
