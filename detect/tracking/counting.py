"""Counting tracks: who crosses a line, in which direction, and who enters a zone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from detect.errors import UserError

Point = tuple[float, float]


@dataclass
class Line:
    """A directed line from `start` to `end`, in pixels, that counts the tracks which cross it, by class.

    A track counts each time its centre has moved from one side to the other between the two ends. `right` counts those
    that arrive at the right side, as seen along the line with y pointing down; `left` the others.
    """

    start: Point
    end: Point
    right: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    last: dict[int, tuple[Point, float]] = field(default_factory=dict)  # of each track: centre, side

    def update(self, track: int, name: str, centre: Point) -> None:
        """Take the centre of a track of class `name` in the next frame."""
        side = side_of(self.start, self.end, centre)
        if side == 0:
            return
        before, side_before = self.last.get(track, (centre, side))
        self.last[track] = (centre, side)
        # It crossed between the ends if these lie on both sides of its path.
        between = side_of(before, centre, self.start) * side_of(before, centre, self.end) <= 0
        if side * side_before < 0 and between:
            (self.right if side > 0 else self.left)[name] += 1

    def counts(self) -> dict[str, Any]:
        """The counts, as `counts.json` has them."""
        return {"line": [*self.start, *self.end], "right": dict(self.right), "left": dict(self.left)}


@dataclass
class Zone:
    """A polygon, in pixels, that counts the tracks whose centre has been inside, and the most at once, by class."""

    corners: list[Point]
    entered: dict[int, str] = field(default_factory=dict)  # the class of each track that was inside
    most: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)  # in the current frame

    def update(self, track: int, name: str, centre: Point) -> None:
        """Take the centre of a track of class `name` in the current frame."""
        if cv2.pointPolygonTest(np.array(self.corners, np.float32), centre, False) >= 0:
            self.entered[track] = name
            self.inside[name] += 1
            self.most[name] = max(self.most[name], self.inside[name])

    def counts(self) -> dict[str, Any]:
        """The counts, as `counts.json` has them."""
        flat = [value for corner in self.corners for value in corner]
        return {"zone": flat, "entered": dict(Counter(self.entered.values())), "most_at_once": dict(self.most)}


def lines_and_zones(lines: Sequence[Sequence[float]], zones: Sequence[Sequence[float]]) -> list[Line | Zone]:
    """Lines from (x, y, x, y) and zones from (x, y, x, y, x, y, …), which have not counted anything yet.

    Raises:
        UserError: a line has no two places, or a zone no three corners.
    """
    return [*(_line(values) for values in lines), *(_zone(values) for values in zones)]


def side_of(start: Point, end: Point, point: Point) -> float:
    """Positive if the point lies to the right of the directed line (y points down), negative to the left, 0 on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _line(values: Sequence[float]) -> Line:
    if len(values) != 4 or list(values[:2]) == list(values[2:]):
        raise UserError(f"--lines has {list(values)}: a line is four numbers x, y, x, y of two places, in pixels")
    return Line((values[0], values[1]), (values[2], values[3]))


def _zone(values: Sequence[float]) -> Zone:
    corners = list(zip(values[::2], values[1::2], strict=False))
    if len(values) % 2 or len(set(corners)) < 3:
        raise UserError(f"--zones has {list(values)}: a zone is x, y of three corners or more, in pixels")
    return Zone(corners)
