"""Counting tracks: who crosses a line, in which direction, and who is in a zone, and for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from detect.errors import UserError

Point = tuple[float, float]


@dataclass
class Line:
    """A directed line from `start` to `end`, in pixels, that counts the tracks which cross it, by class.

    A track counts each time its point has moved from one side to the other between the two ends. `right` counts those
    that arrive at the right side, as seen along the line with y pointing down; `left` the others.
    """

    start: Point
    end: Point
    right: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    last: dict[int, tuple[Point, float]] = field(default_factory=dict)  # of each track: point, side

    def update(self, track: int, name: str, point: Point) -> None:
        """Take the point of a track of class `name` in the next frame."""
        side = side_of(self.start, self.end, point)
        if side == 0:
            return
        before, side_before = self.last.get(track, (point, side))
        self.last[track] = (point, side)
        # It crossed between the ends if these lie on both sides of its path.
        between = side_of(before, point, self.start) * side_of(before, point, self.end) <= 0
        if side * side_before < 0 and between:
            (self.right if side > 0 else self.left)[name] += 1

    def keep(self, tracks: Container[int]) -> None:
        """Forget where all other tracks were: their numbers never come again."""
        self.last = {track: last for track, last in self.last.items() if track in tracks}

    def counts(self) -> dict[str, Any]:
        """The counts, as `counts.json` has them."""
        return {"line": [*self.start, *self.end], "right": dict(self.right), "left": dict(self.left)}


@dataclass
class Stay:
    """The time of a track of class `name` in a zone: `seconds` so far; `last`, when it was seen inside, else None."""

    name: str
    seconds: float = 0.0
    last: float | None = None


@dataclass
class Zone:
    """A polygon, in pixels, that counts the tracks whose point has been inside, and the most at once, by class.

    Where frames have times, the time inside (dwell time) is measured, too: it goes on while a track is out of sight if
    it was inside before and after.
    """

    corners: list[Point]
    entered: Counter[str] = field(default_factory=Counter)  # tracks that have been inside
    most: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)  # in the current frame
    stays: dict[int, Stay] = field(default_factory=dict)  # of the tracks that may go on
    ended: Counter[str] = field(default_factory=Counter)  # the other tracks that have been inside,
    seconds: dict[str, float] = field(default_factory=dict)  # how long together,
    longest: dict[str, float] = field(default_factory=dict)  # and at most
    timed: bool = False

    def update(self, track: int, name: str, point: Point, seconds: float | None = None) -> float:
        """Take the point of a track of class `name` in the current frame, at a time. Returns its seconds inside."""
        stay = self.stays.get(track)
        if cv2.pointPolygonTest(np.array(self.corners, np.float32), point, False) < 0:
            if stay:
                stay.last = None
            return stay.seconds if stay else 0.0
        if stay is None:
            stay = self.stays[track] = Stay(name)
            self.entered[name] += 1
        if seconds is not None:
            stay.seconds += max(seconds - stay.last, 0) if stay.last is not None else 0
            stay.last, self.timed = seconds, True
        self.inside[name] += 1
        self.most[name] = max(self.most[name], self.inside[name])
        return stay.seconds

    def keep(self, tracks: Container[int]) -> None:
        """Sum up all other tracks: their numbers never come again."""
        for track in [one for one in self.stays if one not in tracks]:
            self._add(self.stays.pop(track), self.ended, self.seconds, self.longest)

    @staticmethod
    def _add(stay: Stay, ended: Counter[str], seconds: dict[str, float], longest: dict[str, float]) -> None:
        ended[stay.name] += 1
        seconds[stay.name] = seconds.get(stay.name, 0.0) + stay.seconds
        longest[stay.name] = max(longest.get(stay.name, 0.0), stay.seconds)

    def dwell(self) -> dict[str, dict[str, float]]:
        """The mean and the longest time inside, in seconds, of the tracks of each class that have been inside."""
        ended, seconds, longest = Counter(self.ended), dict(self.seconds), dict(self.longest)
        for stay in self.stays.values():
            self._add(stay, ended, seconds, longest)
        return {
            name: {"mean": round(seconds[name] / ended[name], 3), "longest": round(longest[name], 3)} for name in ended
        }

    def counts(self) -> dict[str, Any]:
        """The counts, as `counts.json` has them."""
        flat = [value for corner in self.corners for value in corner]
        counts: dict[str, Any] = {"zone": flat, "entered": dict(self.entered), "most_at_once": dict(self.most)}
        return counts | ({"dwell": self.dwell()} if self.timed else {})


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
