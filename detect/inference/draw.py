"""Boxes, labels and keypoints drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate

import cv2
import numpy as np

from detect.inference.text_rendering import render
from detect.types import Classification, Detections

Color = tuple[int, int, int]
LONGEST = 100  # letters of a name in a label


def draw(
    image: np.ndarray,
    found: Detections | Classification,
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """A copy of the picture (H, W, 3) uint8 RGB with what was found in it; classes stand below one another, best first.

    Each box carries its class name, score and track number in the colour of its class; keypoints with a visibility
    of 0.5 or more are dots, joined where `skeleton` (pairs of 0-based indices) says so. The best lie on top.
    """
    picture = np.ascontiguousarray(image).copy()
    side = (picture.shape[0] + picture.shape[1]) / 2
    width, size = max(2, round(side / 320)), max(11, round(side / 45))
    named = dict(enumerate(names))
    if isinstance(found, Classification):
        rows = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
        lines = [
            _label("", named.get(label, str(label)), f"{score:.2f}", size, color_of(label)) for label, score in rows
        ]
        for line, top in zip(lines, accumulate((len(line) for line in lines), initial=0), strict=False):
            if top < picture.shape[0]:
                _paste(picture[top:], line, [0, 0, 0, 0], 0)
        return picture
    order = found.scores.argsort().tolist()
    corners = found.boxes.round().int().tolist()
    labels, scores = found.labels.tolist(), found.scores.tolist()
    for i in order:
        left, top, right, bottom = corners[i]
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), color_of(labels[i]), width)
    if found.keypoints is not None:
        for i in order:
            _limbs(picture, found.keypoints[i].tolist(), skeleton, color_of(labels[i]), width)
    tracks = found.tracks.tolist() if found.tracks is not None else None
    for i in order:
        name = named.get(labels[i], str(labels[i]))
        number = f"#{tracks[i]} " if tracks else ""
        _paste(picture, _label(number, name, f"{scores[i]:.2f}", size, color_of(labels[i])), corners[i], width)
    return picture


def color_of(index: int) -> Color:
    """The RGB colour of a class, the same in every run."""
    return _palette()[index % len(_palette())]


@cache
def _palette() -> list[Color]:
    """128 lively colours from red on, each the one farthest in CIE Lab from all before it (greedy k-centre)."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    lively = (lab[:, 0] > 45) & (lab[:, 0] < 85) & (np.hypot(lab[:, 1], lab[:, 2]) > 45)
    rgb, lab = rgb[lively], lab[lively]
    chosen = [int(np.abs(rgb.astype(int) - (255, 45, 45)).sum(axis=1).argmin())]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < 128:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return [(red, green, blue) for red, green, blue in rgb[chosen].tolist()]


def ink_on(color: Color) -> int:
    """Black (0) or white (255), whichever reads better on the colour (contrast ratio of WCAG 2)."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 0 if luminance > 0.179 else 255


@lru_cache(maxsize=1024)
def _label(number: str, name: str, score: str, size: int, color: Color) -> np.ndarray:
    """The label as a picture (h, w, 3): ink on a bar of the class colour."""
    gap = max(2, size // 5)
    name = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    parts = [render(part, size) for part in (number, name, " ", score) if part]
    cover = np.pad(np.hstack(parts), ((0, 0), (gap, gap)))[..., None].astype(np.float32) / 255
    return (cover * ink_on(color) + (1 - cover) * np.array(color, np.float32)).round().astype(np.uint8)


def _paste(picture: np.ndarray, label: np.ndarray, corners: list[int], width: int) -> None:
    """Puts the label on top of the box, within it where there is no room above, and always inside the picture."""
    height, room = picture.shape[:2]
    label = label[:height, :room]
    h, w = label.shape[:2]
    left, top = corners[0] - width // 2, corners[1] - width // 2
    above = top - h if top >= h else top
    x, y = min(max(left, 0), room - w), min(max(above, 0), height - h)
    picture[y : y + h, x : x + w] = label


def _limbs(
    picture: np.ndarray, points: list[list[float]], skeleton: Sequence[tuple[int, int]], color: Color, width: int
) -> None:
    """Joins the visible keypoints (K rows of x, y, visibility or its probability) and dots them, small ones finely."""
    spots = [(round(x), round(y)) if visible >= 0.5 else None for x, y, visible in points]
    there = np.array([spot for spot in spots if spot] or [(0, 0)])
    width = max(1, min(width, round(float(np.ptp(there, axis=0).max()) / 60)))
    for a, b in skeleton:
        start, end = spots[a], spots[b]
        if start and end:
            cv2.line(picture, start, end, color, width, cv2.LINE_AA)
    for spot in spots:
        if spot:
            if width > 1:
                cv2.circle(picture, spot, width + 1, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(picture, spot, width, color, -1, cv2.LINE_AA)
