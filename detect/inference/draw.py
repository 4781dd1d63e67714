"""Draws boxes, labels and keypoints on a copy of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import NamedTuple

import cv2
import numpy as np

from detect.inference.label_placement import Rectangle, free_corner, place, places
from detect.inference.text_rendering import render
from detect.types import Classification, Detections

Color = tuple[int, int, int]
LONGEST = 100  # letters of a name in a label
TRANSLUCENT, OPAQUE = 0.65, 0.85  # share of the label in its pixels, of the legend in its


class Caption(NamedTuple):
    """What a label says: the number of a track or class, a name and a score, each of which may be empty."""

    number: str
    name: str
    score: str
    color: Color


def draw(
    image: np.ndarray,
    detections: Detections | Classification,
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]] = (),
    line_width: int = 0,
    hide_labels: bool = False,
    hide_conf: bool = False,
) -> np.ndarray:
    """An annotated copy of an image.

    Each box has its class name, score and track number in the colour of its class; the best lie on top. Where labels
    would hide one another or the image, they become small and translucent, or numbers with a legend. Keypoints with a
    visibility of 0.5 or more are dots, joined by lines. The classes of a classification are listed, best first.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: what to draw.
        names: class names by label; labels without a name are shown as numbers.
        skeleton: pairs of 0-based indices of keypoints to join.
        line_width: of boxes, in pixels; 0: by the size of image and box.
        hide_labels: draw boxes and keypoints alone.
        hide_conf: leave the scores out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    annotated = np.ascontiguousarray(image).copy()
    side = (annotated.shape[0] + annotated.shape[1]) / 2
    width, size = line_width or max(2 if side >= 200 else 1, round(side / 320)), max(11, round(side / 45))
    captions = _captions(detections, names, hide_conf)
    if isinstance(detections, Classification):
        _list(annotated, [] if hide_labels else captions, size)
        return annotated
    boxes = [(a, b, c, d) for a, b, c, d in detections.boxes.round().int().tolist()]
    if boxes and not line_width:  # thick lines hide what small boxes hold
        sides = sorted(min(right - left, bottom - top) for left, top, right, bottom in boxes)
        width = max(1, min(width, sides[len(sides) // 2] // 8))
    order = detections.scores.argsort().tolist()
    for i in order:
        left, top, right, bottom = boxes[i]
        cv2.rectangle(annotated, (left, top), (right - 1, bottom - 1), captions[i].color, width)
    if detections.keypoints is not None:
        for i in order:
            _limbs(annotated, detections.keypoints[i].tolist(), skeleton, captions[i].color, width)
    if boxes and not hide_labels:
        best = order[::-1]
        _write(annotated, [boxes[i] for i in best], [captions[i] for i in best], size, width)
    return annotated


def _captions(detections: Detections | Classification, names: Sequence[str], hide_conf: bool) -> list[Caption]:
    """The caption of each row."""
    named, tracks = dict(enumerate(names)), getattr(detections, "tracks", None)
    numbers = [f"#{track} " for track in tracks.tolist()] if tracks is not None else [""] * len(detections)
    rows = zip(numbers, detections.labels.tolist(), detections.scores.tolist(), strict=True)
    return [
        Caption(number, named.get(label, str(label)), "" if hide_conf else f"{score:.2f}", color_of(label))
        for number, label, score in rows
    ]


def _list(annotated: np.ndarray, captions: Sequence[Caption], size: int) -> None:
    """Write captions one below the other, from the upper left corner."""
    lines = [_label(*caption, size) for caption in captions]
    for line, top in zip(lines, accumulate((len(line) for line in lines), initial=0), strict=False):
        if top < annotated.shape[0]:
            _paste(annotated, line, 0, top)


def _write(
    annotated: np.ndarray, boxes: Sequence[Rectangle], captions: Sequence[Caption], size: int, line: int
) -> None:
    """Write the labels of boxes, the best first: in full, else small and translucent, else as numbers with a legend."""
    image, small = (annotated.shape[1], annotated.shape[0]), max(8, round(0.7 * size))
    said, letters, opacity = captions, size, 1.0
    found = place(boxes, [_extent(*one, letters) for one in said], image, line)
    if found is None:
        letters, opacity = small, TRANSLUCENT
        found = place(boxes, [_extent(*one, letters) for one in said], image, line)
    if found is None:
        said = _numbered(captions)
        found = [next(places(box, _extent(*one, letters), image, line)) for box, one in zip(boxes, said, strict=True)]
    for (left, top, _, _), one in zip(reversed(found), reversed(said), strict=True):
        if one.number or one.name or one.score:
            _paste(annotated, _label(*one, letters), left, top, opacity)
    if said is not captions:
        _legend(annotated, boxes, captions, letters)


def _classes(captions: Sequence[Caption]) -> list[tuple[Caption, int]]:
    """A caption with the name and colour of each class, and how many there are; the most frequent class first."""
    counts = Counter(caption._replace(number="", score="") for caption in captions)
    return counts.most_common()


def _numbered(captions: Sequence[Caption]) -> list[Caption]:
    """Captions that say the number of the track, else the row of the class in the legend, unless all have one class."""
    rows = {one.name: str(i) for i, (one, _) in enumerate(_classes(captions), 1)}
    return [Caption(one.number.strip() or rows[one.name] * (len(rows) > 1), "", "", one.color) for one in captions]


def _legend(annotated: np.ndarray, boxes: Sequence[Rectangle], captions: Sequence[Caption], size: int) -> None:
    """List classes with their numbers and counts, in the corner with the fewest boxes; as far as there is room."""
    classes, (height, room) = _classes(captions), annotated.shape[:2]
    tracked = bool(captions[0].number)
    rows = [
        _label("" if tracked or len(classes) == 1 else f"{i} ", one.name, f"× {count}", one.color, size)
        for i, (one, count) in enumerate(classes, 1)
    ][: height // 2 // (size + size // 3)]
    w = max((row.shape[1] for row in rows), default=0)
    h = sum(row.shape[0] for row in rows)
    if w > room or w * h > height * room / 4:
        return
    left, top = free_corner(boxes, (w, h), (room, height))
    for row in rows:
        _paste(annotated, np.pad(row, ((0, 0), (0, w - row.shape[1]), (0, 0)), "edge"), left, top, OPAQUE)
        top += row.shape[0]


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
def _label(number: str, name: str, score: str, color: Color, size: int) -> np.ndarray:
    """The label as an image (h, w, 3): ink on a bar of the class colour."""
    gap = max(2, size // 5)
    parts = [render(part, size) for part in _parts(number, name, score)]
    cover = np.pad(np.hstack(parts), ((0, 0), (gap, gap)))[..., None].astype(np.float32) / 255
    return (cover * ink_on(color) + (1 - cover) * np.array(color, np.float32)).round().astype(np.uint8)


@lru_cache(maxsize=4096)
def _extent(number: str, name: str, score: str, color: Color, size: int) -> tuple[int, int]:
    """Width and height of `_label`, which need not be made for it."""
    parts = [render(part, size).shape for part in _parts(number, name, score)]
    return sum(w for _, w in parts) + 2 * max(2, size // 5), size + size // 3


def _parts(number: str, name: str, score: str) -> list[str]:
    """The texts of a label, one after the other; they are rendered alone, for they come again in other labels."""
    name = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return [part for part in (number, name, " " if name and score else "", score) if part]


def _paste(annotated: np.ndarray, label: np.ndarray, left: int, top: int, opacity: float = 1.0) -> None:
    """Put a label into the image, as far as it reaches."""
    part = annotated[top : top + label.shape[0], left : left + label.shape[1]]
    label = label[: part.shape[0], : part.shape[1]]
    part[:] = label if opacity == 1 else cv2.addWeighted(label, opacity, part, 1 - opacity, 0)


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
