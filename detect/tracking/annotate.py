"""Drawing trails of tracks, counting lines and zones into an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np

from detect.inference.label_placement import Rectangle, overlap
from detect.inference.palette import color_of
from detect.inference.text_rendering import render
from detect.tracking.counting import Line, Point, Zone


def draw_tracks(
    image: np.ndarray,
    trails: Mapping[int, Iterable[Point]],
    places: Sequence[Line | Zone],
    notes: Mapping[Point, str] = MappingProxyType({}),
) -> None:
    """Draw into the image (H, W, 3) uint8 RGB, in place.

    Args:
        image: changed in place.
        trails: the last points of each track, by its number, which chooses the colour.
        places: lines and zones, drawn with their counts.
        notes: texts at points, such as speeds; they give way to one another.
    """
    taken = list[Rectangle]()
    width = max(2, round((image.shape[0] + image.shape[1]) / 640))
    for track, trail in trails.items():
        path = np.array(list(trail)).round().astype(np.int32)
        cv2.polylines(image, [path], False, color_of(track), width, cv2.LINE_AA)
    for place in places:
        if isinstance(place, Line):
            _draw_line(image, place, width, taken)
        else:
            _draw_zone(image, place, width, taken)
    for point, text in notes.items():
        _write(image, text, point, taken)


def _draw_line(image: np.ndarray, line: Line, width: int, taken: list[Rectangle]) -> None:
    ends = np.array([line.start, line.end]).round().astype(np.int32)
    _outlined(image, ends, width, closed=False)
    middle = ((line.start[0] + line.end[0]) / 2, (line.start[1] + line.end[1]) / 2)
    _write(image, f"right {line.right.total()} left {line.left.total()}", middle, taken)


def _draw_zone(image: np.ndarray, zone: Zone, width: int, taken: list[Rectangle]) -> None:
    corners = np.array(zone.corners).round().astype(np.int32)
    _outlined(image, corners, width, closed=True)
    centre = (float(np.mean(corners[:, 0])), float(np.mean(corners[:, 1])))
    _write(image, f"{zone.inside.total()} of {zone.entered.total()}", centre, taken)


def _outlined(image: np.ndarray, corners: np.ndarray, width: int, closed: bool) -> None:
    """Lines between corners (N, 2), black with a white border."""
    cv2.polylines(image, [corners], closed, (255, 255, 255), width + 2, cv2.LINE_AA)
    cv2.polylines(image, [corners], closed, (0, 0, 0), width, cv2.LINE_AA)


def _write(image: np.ndarray, text: str, centre: Point, taken: list[Rectangle]) -> None:
    """White letters on black, centred at a place as far as the image reaches, or a line or two below or above it.

    Args:
        image: changed in place.
        text: what is written.
        centre: the place.
        taken: where other texts are; this one is added.
    """
    height, width = image.shape[:2]
    letters = render(text, max(11, round((height + width) / 90)))[:height, :width]
    h, w = letters.shape
    x = min(max(round(centre[0] - w / 2), 0), width - w)
    found = (min(max(round(centre[1] + (lines - 0.5) * h), 0), height - h) for lines in (0, 1, -1, 2, -2))
    candidates = [(x, y, x + w, y + h) for y in found]
    best = min(candidates, key=lambda one: sum(overlap(one, other) for other in taken))
    taken.append(best)
    image[best[1] : best[3], x : x + w] = letters[..., None]
