"""Colours of classes, tracks and instances, the same in every run, and of the letters on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

Color = tuple[int, int, int]
TINTS = (0.0, 0.55, -0.45, 0.3, -0.25)  # of neighbours of one class: towards white, or towards black


def color_of(index: int) -> Color:
    """The RGB colour of a class or track number, the same in every run."""
    return _palette()[index % len(_palette())]


@cache
def _palette() -> list[Color]:
    """128 saturated colours from red on, each the one farthest in CIE Lab from all before it (greedy k-centre)."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    saturated = (lab[:, 0] > 45) & (lab[:, 0] < 85) & (np.hypot(lab[:, 1], lab[:, 2]) > 45)
    rgb, lab = rgb[saturated], lab[saturated]
    palette = [int(np.abs(rgb.astype(int) - (255, 45, 45)).sum(axis=1).argmin())]
    distance = np.full(len(lab), np.inf)
    while len(palette) < 128:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[palette[-1]], axis=1))
        palette.append(int(distance.argmax()))
    return [(red, green, blue) for red, green, blue in rgb[palette].tolist()]


def ink_on(color: Color) -> int:
    """Black (0) or white (255), whichever reads better on the colour (contrast ratio of WCAG 2)."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 0 if luminance > 0.179 else 255


def tints(label: int, one_class: bool) -> list[Color]:
    """The colours that tell neighbours of a class apart: its own in several tints.

    Args:
        label: of the class.
        one_class: the model knows a single class, so that neighbours may have colours of other classes.
    """
    return [color_of(i) if one_class else _tinted(color_of(label), tint) for i, tint in enumerate(TINTS)]


def instance_colors(boxes: np.ndarray, labels: Sequence[int], one_class: bool) -> list[Color]:
    """The colour of each object: one of the tints of its class that its neighbours of the class do not have.

    Neighbours are objects whose boxes meet. From left to right, so that colours stay from frame to frame of a video,
    each takes the first tint that no neighbour has, or else the least used one.

    Args:
        boxes: (N, 4) xyxy.
        labels: N.
        one_class: see `tints`.
    """
    low, high, classes = boxes[:, :2] - 1, boxes[:, 2:] + 1, np.array(labels)
    place = np.full(len(boxes), -1)
    for i in boxes[:, 0].argsort(kind="stable"):
        near = (low < high[i]).all(1) & (high > low[i]).all(1) & (classes == classes[i]) & (place >= 0)
        place[i] = np.bincount(place[near], minlength=len(TINTS)).argmin()
    of_class = {label: tints(label, one_class) for label in set(labels)}
    return [of_class[label][one] for label, one in zip(labels, place.tolist(), strict=True)]


def _tinted(color: Color, tint: float) -> Color:
    """The colour mixed with white (a tint above 0) or black (below 0)."""
    goal, share = (255 if tint > 0 else 0), abs(tint)
    red, green, blue = (round(value * (1 - share) + goal * share) for value in color)
    return red, green, blue
