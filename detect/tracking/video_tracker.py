"""What `detect predict --track` adds: track numbers for detections, trails, and counts at lines and zones.

The images of a folder are the frames of one video, and so are the frames of a video file, and the pages of an image
file.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch

from detect.config.tracking import MotionConfig, TrackConfig
from detect.inference.box_embedder import BoxEmbedder
from detect.registry import REGISTRIES
from detect.tracking.annotate import draw_tracks
from detect.tracking.counting import Line, Point, Zone, lines_and_zones
from detect.tracking.motion import SpeedMeter, homography, on_ground, points_of
from detect.types import Detections, Frame

TRAIL = 30  # frames


class VideoTracker:
    """Tracks the objects of each video, and counts them at lines and zones. Each video has tracks of its own.

    `counting` tells whether there are lines or zones; `objects` counts the tracks of each class over all videos.

    Args:
        confidence: least score of a detection that counts alone; those below only carry on tracks.
        names: class names by label.
        config: which tracker, and its options.
        lines: (x, y, x, y) each, in pixels.
        zones: (x, y, x, y, x, y, …) each, in pixels.
        embed: gives the embeddings of confident detections, by which tracks then also match.
        motion: which point of a box counts, and whether speeds are measured.

    Raises:
        UserError: a line has no two places, a zone no three corners, or the homography cannot be used.
    """

    def __init__(
        self,
        confidence: float,
        names: Sequence[str],
        config: TrackConfig | None = None,
        lines: Sequence[Sequence[float]] = (),
        zones: Sequence[Sequence[float]] = (),
        embed: BoxEmbedder | None = None,
        motion: MotionConfig | None = None,
    ) -> None:
        self.confidence, self.names, self.config, self.embed = confidence, names, config or TrackConfig(), embed
        self.lines, self.zones, self.counting = lines, zones, bool(lines or zones)
        self.motion = motion or MotionConfig()
        self.ground = homography(self.motion.homography)
        self.objects: Counter[str] = Counter()
        self.video, self.videos = "", dict[str, list[Line | Zone]]()
        self._begin("")

    def _begin(self, video: str) -> None:
        dimensions = self.embed.dimensions if self.embed else 0
        self.video = video
        self.tracker = REGISTRIES["tracker"][self.config.kind](self.confidence, self.config, dimensions)
        self.trails: dict[int, deque[Point]] = {}
        self.places = lines_and_zones(self.lines, self.zones)
        self.meter, self.notes, self.frames, self.last = SpeedMeter(), dict[Point, str](), 0, -1

    def __call__(self, frame: Frame, detections: Detections) -> Detections:
        """The detections of the next frame that belong to tracks, with their numbers in `tracks`."""
        image_of_folder = frame.time is None and frame.pages == 1
        video = str(PurePosixPath(frame.name).parent) if image_of_folder else frame.name
        starts_again = not image_of_folder and (frame.index < self.last or frame.index == 0)
        if video != self.video or starts_again:
            self._begin(video)
        self._skip(0 if image_of_folder or self.last < 0 else frame.index - self.last - 1)
        self.last = frame.index
        self.videos[video] = self.places
        image = (frame.image,) if getattr(self.tracker, "uses_image", False) else ()
        tracked = self.tracker.update(detections, self._embeddings(frame, detections), *image)
        tracked = self._count(tracked, self._seconds(frame))
        active = self.tracker.active  # a number never comes again
        self.trails = {track: trail for track, trail in self.trails.items() if track in active}
        self.meter.keep(active)
        for place in self.places:
            place.keep(active)
        return tracked

    def _skip(self, frames: int) -> None:
        """Tell the tracker of frames that were not predicted, so that it does not take what passed for speed."""
        if frames > 0 and hasattr(self.tracker, "skip"):
            self.tracker.skip(frames)

    def _seconds(self, frame: Frame) -> float | None:
        """The time of the frame; None for images of a folder without a rate."""
        self.frames += 1
        if frame.time is not None:
            return frame.time
        return (self.frames - 1) / self.motion.fps if self.motion.fps else None

    def _count(self, tracked: Detections, seconds: float | None) -> Detections:
        """Lengthen the trails, and count at lines and zones. Returns the detections with speeds and dwell times."""
        zones = [place for place in self.places if isinstance(place, Zone)]
        for zone in zones:
            zone.inside = Counter()
        assert tracked.tracks is not None
        points = points_of(tracked.boxes.double().numpy(), self.motion.point)
        ground, speeds, stays = on_ground(points, self.ground).tolist(), list[float](), list[list[float]]()
        self.notes = {}
        rows = zip(tracked.tracks.tolist(), tracked.labels.tolist(), points.tolist(), ground, strict=True)
        for track, label, (x, y), place in rows:
            if track not in self.trails:
                self.trails[track] = deque(maxlen=TRAIL)
                self.objects[self.names[label]] += 1
            self.trails[track].append((x, y))
            for line in self.places:
                if isinstance(line, Line):
                    line.update(track, self.names[label], (x, y))
            stays.append([zone.update(track, self.names[label], (x, y), seconds) for zone in zones])
            speeds.append(float("nan") if seconds is None else self.meter.update(track, place, seconds))
            self._note((x, y), speeds[-1], stays[-1])
        if self.motion.speed:
            tracked = replace(tracked, speeds=torch.tensor(speeds, dtype=torch.float32))
        if zones and seconds is not None:
            tracked = replace(tracked, dwell=torch.tensor(stays, dtype=torch.float32).reshape(len(stays), len(zones)))
        return tracked

    def _note(self, point: Point, speed: float, stays: Sequence[float]) -> None:
        """Keep what is drawn beside a track: its speed, and its times in zones."""
        unit = "px/s" if self.ground is None else "m/s"
        texts = [f"{speed:.0f} {unit}" if self.ground is None else f"{speed:.1f} {unit}"] if speed == speed else []
        texts = texts if self.motion.speed else []
        if texts := [*texts, *(f"{stay:.1f} s" for stay in stays if stay)]:
            self.notes[point] = " ".join(texts)

    def _embeddings(self, frame: Frame, detections: Detections) -> np.ndarray | None:
        """The embeddings (N, D) of the confident detections, zero for the others."""
        if self.embed is None:
            return None
        embeddings = np.zeros((len(detections), self.embed.dimensions))
        confident = (detections.scores >= self.confidence).numpy()
        embeddings[confident] = self.embed(frame.image, detections.boxes.double().numpy()[confident])
        return embeddings

    def draw(self, image: np.ndarray) -> None:
        """Draw trails, lines, zones, speeds and dwell times into the image (H, W, 3), in place."""
        draw_tracks(image, self.trails, self.places, self.notes)

    def counts(self) -> dict[str, list[dict[str, Any]]]:
        """The counts of every line and zone, by video."""
        return {video: [place.counts() for place in places] for video, places in self.videos.items()}
