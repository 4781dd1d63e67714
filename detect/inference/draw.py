"""Draws boxes, labels and keypoints on a copy of an image."""

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
    detections: Detections | Classification,
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """An annotated copy of an image.

    Each box has its class name, score and track number in the colour of its class; the best lie on top. Keypoints with
    a visibility of 0.5 or more are dots, joined by lines. The classes of a classification are listed, best first.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: what to draw.
        names: class names by label; labels without a name are shown as numbers.
        skeleton: pairs of 0-based indices of keypoints to join.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    annotated = np.ascontiguousarray(image).copy()
    side = (annotated.shape[0] + annotated.shape[1]) / 2
    width, size = max(2, round(side / 320)), max(11, round(side / 45))
    named = dict(enumerate(names))
    if isinstance(detections, Classification):
        rows = zip(detections.labels.tolist(), detections.scores.tolist(), strict=True)
        lines = [
            _label("", named.get(label, str(label)), f"{score:.2f}", size, color_of(label)) for label, score in rows
        ]
        for line, top in zip(lines, accumulate((len(line) for line in lines), initial=0), strict=False):
            if top < annotated.shape[0]:
                _paste(annotated[top:], line, [0, 0, 0, 0], 0)
        return annotated
    order = detections.scores.argsort().tolist()
    corners = detections.boxes.round().int().tolist()
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    for i in order:
        left, top, right, bottom = corners[i]
        cv2.rectangle(annotated, (left, top), (right - 1, bottom - 1), color_of(labels[i]), width)
    if detections.keypoints is not None:
        for i in order:
            _limbs(annotated, detections.keypoints[i].tolist(), skeleton, color_of(labels[i]), width)
    tracks = detections.tracks.tolist() if detections.tracks is not None else None
    for i in order:
        name = named.get(labels[i], str(labels[i]))
        number = f"#{tracks[i]} " if tracks else ""
        _paste(annotated, _label(number, name, f"{scores[i]:.2f}", size, color_of(labels[i])), corners[i], width)
    return annotated


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


@lru_cache(maxsize=1024)
def _label(number: str, name: str, score: str, size: int, color: Color) -> np.ndarray:
    """The label as an image (h, w, 3): ink on a bar of the class colour."""
    gap = max(2, size // 5)
    name = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    parts = [render(part, size) for part in (number, name, " ", score) if part]
    cover = np.pad(np.hstack(parts), ((0, 0), (gap, gap)))[..., None].astype(np.float32) / 255
    return (cover * ink_on(color) + (1 - cover) * np.array(color, np.float32)).round().astype(np.uint8)


def _paste(annotated: np.ndarray, label: np.ndarray, corners: list[int], width: int) -> None:
    """Draw the label above the box, or inside it if there is no room above, and always within the image."""
    height, room = annotated.shape[:2]
    label = label[:height, :room]
    h, w = label.shape[:2]
    left, top = corners[0] - width // 2, corners[1] - width // 2
    above = top - h if top >= h else top
    x, y = min(max(left, 0), room - w), min(max(above, 0), height - h)
    annotated[y : y + h, x : x + w] = label


def _limbs(
    annotated: np.ndarray, points: list[list[float]], skeleton: Sequence[tuple[int, int]], color: Color, width: int
) -> None:
    """Draw the visible keypoints, K rows of x, y, visibility or its probability, and the lines that join them.

    Lines of small objects are thinner.
    """
    spots = [(round(x), round(y)) if visible >= 0.5 else None for x, y, visible in points]
    there = np.array([spot for spot in spots if spot] or [(0, 0)])
    width = max(1, min(width, round(float(np.ptp(there, axis=0).max()) / 60)))
    for a, b in skeleton:
        start, end = spots[a], spots[b]
        if start and end:
            cv2.line(annotated, start, end, color, width, cv2.LINE_AA)
    for spot in spots:
        if spot:
            if width > 1:
                cv2.circle(annotated, spot, width + 1, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(annotated, spot, width, color, -1, cv2.LINE_AA)
