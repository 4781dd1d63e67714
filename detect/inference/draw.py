"""Draws boxes, labels and keypoints on a copy of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import cv2
import numpy as np

from anchors.oriented import oriented_to_corners
from detect.inference.label_placement import Rectangle, free_corner, place, places
from detect.inference.mask_drawing import draw_masks
from detect.inference.palette import Color, color_of, ink_on, instance_colors
from detect.inference.text_rendering import render
from detect.masks import RleMasks
from detect.types import Classification, Detections

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
    show_boxes: bool = False,
) -> np.ndarray:
    """An annotated copy of an image.

    Each box has its class name, score and track number, in the colour of its track, as its trail, or of its class; the
    best lie on top. Where labels
    would hide one another or the image, they become small and translucent, or numbers with a legend. Keypoints with a
    visibility of 0.5 or more are dots, joined by lines. Masks are translucent, the smallest on top, in the colour of
    their track, else in a tint of their class that tells them from their neighbours. The classes of a classification
    are listed, best first.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: what to draw.
        names: class names by label; labels without a name are shown as numbers.
        skeleton: pairs of 0-based indices of keypoints to join.
        line_width: of boxes, in pixels; 0: by the size of image and box.
        hide_labels: draw boxes, masks and keypoints alone.
        hide_conf: leave the scores out.
        show_boxes: draw boxes beside masks, too.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    annotated = np.ascontiguousarray(image).copy()
    side = (annotated.shape[0] + annotated.shape[1]) / 2
    width, size = line_width or max(2 if side >= 200 else 1, round(side / 320)), max(11, round(side / 45))
    captions = _captions(detections, names, hide_conf)
    if isinstance(detections, Classification):
        list_captions(annotated, [] if hide_labels else captions, size)
        return annotated
    boxes = [(a, b, c, d) for a, b, c, d in detections.boxes.round().int().tolist()]
    if boxes and not line_width:  # thick lines hide what small boxes hold
        sides = sorted(_short_sides(detections))
        width = max(1, min(width, int(sides[len(sides) // 2]) // 8))
    colors = [caption.color for caption in captions]
    labelled = boxes
    if detections.oriented is not None:  # the corner of the upright box around an object that lies askew is far from it
        labelled = [_below_upper_side(corners) for corners in oriented_to_corners(detections.oriented).tolist()]
    if isinstance(detections.masks, RleMasks):
        below = draw_masks(annotated, detections.masks, colors, max(1, width // 2))
        labelled = boxes if show_boxes else [top or box for top, box in zip(below, boxes, strict=True)]
    if detections.masks is None or show_boxes:
        _boxes(annotated, detections, boxes, colors, width)
    if detections.keypoints is not None:
        for i in detections.scores.argsort().tolist():
            _limbs(annotated, detections.keypoints[i].tolist(), skeleton, colors[i], width)
    if boxes and not hide_labels:
        best = detections.scores.argsort().tolist()[::-1]
        _write(annotated, [labelled[i] for i in best], [captions[i] for i in best], size, width)
    return annotated


def _boxes(
    annotated: np.ndarray, detections: Detections, boxes: Sequence[Rectangle], colors: Sequence[Color], width: int
) -> None:
    """Draw the lines of boxes, the best on top; those of oriented boxes are turned."""
    turned = None if detections.oriented is None else oriented_to_corners(detections.oriented).numpy()
    for i in detections.scores.argsort().tolist():
        if turned is not None:
            corners = ((turned[i] - 0.5) * 16).round().astype(np.int32)  # sixteenths, from the middle of a pixel
            cv2.polylines(annotated, [corners], True, colors[i], width, cv2.LINE_AA, shift=4)
        else:
            left, top, right, bottom = boxes[i]
            cv2.rectangle(annotated, (left, top), (right - 1, bottom - 1), colors[i], width)


def _short_sides(detections: Detections) -> list[float]:
    """The shorter side of each box in pixels."""
    boxes, oriented = detections.boxes, detections.oriented
    sides: list[float] = (boxes[:, 2:] - boxes[:, :2] if oriented is None else oriented[:, 2:4]).amin(1).tolist()
    return sides


def _below_upper_side(corners: Sequence[Sequence[float]]) -> Rectangle:
    """A rectangle as wide as the upper side of a turned box with these corners (4, 2), and as high as the box."""
    top = min(range(4), key=lambda i: corners[i][1])
    other = min(corners[top - 1], corners[(top + 1) % 4], key=lambda corner: corner[1])
    left, right = sorted((corners[top][0], other[0]))
    return round(left), round(corners[top][1]), round(right), round(max(y for _, y in corners))


def _captions(detections: Detections | Classification, names: Sequence[str], hide_conf: bool) -> list[Caption]:
    """The caption of each row."""
    named, tracks = dict(enumerate(names)), getattr(detections, "tracks", None)
    numbers = [f"#{track} " for track in tracks.tolist()] if tracks is not None else [""] * len(detections)
    rows = zip(numbers, detections.labels.tolist(), detections.scores.tolist(), strict=True)
    colors = _colors(detections, len(names) == 1)
    return [
        Caption(number, named.get(label, str(label)), "" if hide_conf else f"{score:.2f}", color)
        for (number, label, score), color in zip(rows, colors, strict=True)
    ]


def _colors(detections: Detections | Classification, one_class: bool) -> list[Color]:
    """The colour of each row: of its track; without one of its class, of which objects with masks have a tint."""
    if (tracks := getattr(detections, "tracks", None)) is not None:
        return [color_of(track) for track in tracks.tolist()]
    labels = detections.labels.tolist()
    if not isinstance(detections, Detections) or detections.masks is None:
        return [color_of(label) for label in labels]
    return instance_colors(detections.boxes.numpy(), labels, one_class)


def list_captions(annotated: np.ndarray, captions: Sequence[Caption], size: int) -> None:
    """Write captions of the letter `size` into the image, one below the other, from the upper left corner."""
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
    counts, first = Counter(caption.name for caption in captions), {one.name: one for one in reversed(captions)}
    return [(first[name]._replace(number="", score=""), count) for name, count in counts.most_common()]


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
