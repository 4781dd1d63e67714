"""What `detect predict --track` adds: tracks with trails, and counts of what goes through lines and zones.

Images of one folder are the frames of one film, and so are those of each video, and the pages of a file.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from detect.config.tracking import TrackConfig
from detect.errors import UserError
from detect.inference.box_embedder import BoxEmbedder
from detect.inference.draw import color_of
from detect.inference.text_rendering import render
from detect.tracking.bytetrack import ByteTrack
from detect.types import Detections, Frame

TRAIL = 30  # frames
Point = tuple[float, float]


@dataclass
class Line:
    """From `start` to `end` in pixels; whoever looks along it sees its right hand at the `right`.

    A track counts each time its centre has gone from one side to the other between the two ends, by class.
    """

    start: Point
    end: Point
    right: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    last: dict[int, tuple[Point, float]] = field(default_factory=dict)  # where a track was off the line, on which side

    def see(self, track: int, name: str, at: Point) -> None:
        """The centre of a track in the next frame."""
        side = _side(self.start, self.end, at)
        if side == 0:
            return
        before, was = self.last.get(track, (at, side))
        self.last[track] = (at, side)
        crossed = _side(before, at, self.start) * _side(before, at, self.end) <= 0  # the ends lie on both sides of it
        if side * was < 0 and crossed:
            (self.right if side > 0 else self.left)[name] += 1

    def told(self) -> dict[str, Any]:
        """Its counts, as they are written."""
        return {"line": [*self.start, *self.end], "right": dict(self.right), "left": dict(self.left)}

    def paint(self, picture: np.ndarray, width: int) -> None:
        """Draw it with its counts."""
        start, end = ((round(x), round(y)) for x, y in (self.start, self.end))
        cv2.line(picture, start, end, (255, 255, 255), width + 2, cv2.LINE_AA)
        cv2.line(picture, start, end, (0, 0, 0), width, cv2.LINE_AA)
        middle = ((self.start[0] + self.end[0]) / 2, (self.start[1] + self.end[1]) / 2)
        _write(picture, f"right {self.right.total()} left {self.left.total()}", middle)


@dataclass
class Zone:
    """A polygon in pixels: how many tracks have had their centre in it, and how many at most at once, by class."""

    corners: list[Point]
    entered: dict[int, str] = field(default_factory=dict)
    most: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)

    def see(self, track: int, name: str, at: Point) -> None:
        """The centre of a track in the present frame."""
        if cv2.pointPolygonTest(np.array(self.corners, np.float32), at, False) >= 0:
            self.entered[track] = name
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])

    def told(self) -> dict[str, Any]:
        """Its counts, as they are written."""
        flat = [value for corner in self.corners for value in corner]
        return {"zone": flat, "entered": dict(Counter(self.entered.values())), "most_at_once": dict(self.most)}

    def paint(self, picture: np.ndarray, width: int) -> None:
        """Draw it with its counts."""
        corners = np.array(self.corners).round().astype(np.int32)
        cv2.polylines(picture, [corners], True, (255, 255, 255), width + 2, cv2.LINE_AA)
        cv2.polylines(picture, [corners], True, (0, 0, 0), width, cv2.LINE_AA)
        where = (float(np.mean(corners[:, 0])), float(np.mean(corners[:, 1])))
        _write(picture, f"{self.now.total()} of {len(self.entered)}", where)


class Follow:
    """Numbers what is found by its tracks, paints their trails, and counts at `lines` (x, y, x, y) and `zones`.

    Each film has tracks and counts of its own. `describe` is asked what sure detections look like. Raises UserError for
    a line that is none or a zone of no three corners.
    """

    def __init__(
        self,
        sure: float,
        names: Sequence[str],
        config: TrackConfig | None = None,
        lines: Sequence[Sequence[float]] = (),
        zones: Sequence[Sequence[float]] = (),
        describe: BoxEmbedder | None = None,
    ) -> None:
        self.describe = describe
        self.sure, self.names, self.config, self.lines, self.zones = sure, names, config, lines, zones
        self.objects: Counter[str] = Counter()  # tracks of each class, over all films
        self.counting = bool(lines or zones)
        self.film, self.last, self.films = "", -1, dict[str, list[Line | Zone]]()
        self._begin("")

    def _begin(self, film: str) -> None:
        dimensions = self.describe.dimensions if self.describe else 0
        self.film, self.tracker = film, ByteTrack(self.sure, self.config, dimensions)
        self.trails: dict[int, deque[Point]] = {}
        self.places: list[Line | Zone] = [_line(values) for values in self.lines]
        self.places += [_zone(values) for values in self.zones]

    def __call__(self, frame: Frame, found: Detections) -> Detections:
        """The detections of the next frame that belong to tracks, with their numbers."""
        alone = frame.time is None and frame.pages == 1
        film = str(PurePosixPath(frame.name).parent) if alone else frame.name
        if film != self.film or (not alone and (frame.index < self.last or frame.index == 0)):
            self._begin(film)
        self.last = frame.index
        self.films[film] = self.places
        found = self.tracker.update(found, self._looks(frame, found))
        for place in self.places:
            if isinstance(place, Zone):
                place.now = Counter()
        assert found.tracks is not None
        middles = ((found.boxes[:, :2] + found.boxes[:, 2:]) / 2).tolist()
        for track, label, (x, y) in zip(found.tracks.tolist(), found.labels.tolist(), middles, strict=True):
            if track not in self.trails:
                self.trails[track] = deque(maxlen=TRAIL)
                self.objects[self.names[label]] += 1
            self.trails[track].append((x, y))
            for place in self.places:
                place.see(track, self.names[label], (x, y))
        alive = set(self.tracker.tracks.ids.tolist())  # a number never comes again
        self.trails = {track: trail for track, trail in self.trails.items() if track in alive}
        return found

    def _looks(self, frame: Frame, found: Detections) -> np.ndarray | None:
        """What the sure detections look like (N, D), zero for the others."""
        if self.describe is None:
            return None
        looks, sure = np.zeros((len(found), self.describe.dimensions)), (found.scores >= self.sure).numpy()
        looks[sure] = self.describe(frame.image, found.boxes.double().numpy()[sure])
        return looks

    def paint(self, picture: np.ndarray) -> None:
        """Draw trails, lines and zones into the picture (H, W, 3)."""
        width = max(2, round((picture.shape[0] + picture.shape[1]) / 640))
        for track, trail in self.trails.items():
            path = np.array(trail).round().astype(np.int32)
            cv2.polylines(picture, [path], False, color_of(track), width, cv2.LINE_AA)
        for place in self.places:
            place.paint(picture, width)

    def counts(self) -> dict[str, list[dict[str, Any]]]:
        """The counts at every line and zone, by film."""
        return {film: [place.told() for place in places] for film, places in self.films.items()}


def _side(start: Point, end: Point, at: Point) -> float:
    """Above zero where `at` is at the right hand of who looks from `start` to `end`, y pointing down."""
    return (end[0] - start[0]) * (at[1] - start[1]) - (end[1] - start[1]) * (at[0] - start[0])


def _line(values: Sequence[float]) -> Line:
    if len(values) != 4 or list(values[:2]) == list(values[2:]):
        raise UserError(f"--lines has {list(values)}: a line is four numbers x, y, x, y of two places, in pixels")
    return Line((values[0], values[1]), (values[2], values[3]))


def _zone(values: Sequence[float]) -> Zone:
    corners = list(zip(values[::2], values[1::2], strict=False))
    if len(values) % 2 or len(set(corners)) < 3:
        raise UserError(f"--zones has {list(values)}: a zone is x, y of three corners or more, in pixels")
    return Zone(corners)


def _write(picture: np.ndarray, text: str, at: Point) -> None:
    """White letters on black, centred at a place as far as the picture reaches."""
    cover = render(text, max(11, round(sum(picture.shape[:2]) / 90)))[: picture.shape[0], : picture.shape[1]]
    h, w = cover.shape
    x = min(max(round(at[0] - w / 2), 0), picture.shape[1] - w)
    y = min(max(round(at[1] - h / 2), 0), picture.shape[0] - h)
    picture[y : y + h, x : x + w] = cover[..., None]
