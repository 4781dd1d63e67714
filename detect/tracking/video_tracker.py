"""What `detect predict --track` adds: track numbers for detections, trails, and counts at lines and zones.

The images of a folder are the frames of one video, and so are the frames of a video file, and the pages of an image
file.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from detect.config.tracking import TrackConfig
from detect.inference.box_embedder import BoxEmbedder
from detect.registry import REGISTRIES
from detect.tracking.annotate import draw_tracks
from detect.tracking.counting import Line, Point, Zone, lines_and_zones
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

    Raises:
        UserError: a line has no two places, or a zone no three corners.
    """

    def __init__(
        self,
        confidence: float,
        names: Sequence[str],
        config: TrackConfig | None = None,
        lines: Sequence[Sequence[float]] = (),
        zones: Sequence[Sequence[float]] = (),
        embed: BoxEmbedder | None = None,
    ) -> None:
        self.confidence, self.names, self.config, self.embed = confidence, names, config or TrackConfig(), embed
        self.lines, self.zones, self.counting = lines, zones, bool(lines or zones)
        self.objects: Counter[str] = Counter()
        self.video, self.last, self.videos = "", -1, dict[str, list[Line | Zone]]()
        self._begin("")

    def _begin(self, video: str) -> None:
        dimensions = self.embed.dimensions if self.embed else 0
        self.video = video
        self.tracker = REGISTRIES["tracker"][self.config.kind](self.confidence, self.config, dimensions)
        self.trails: dict[int, deque[Point]] = {}
        self.places = lines_and_zones(self.lines, self.zones)

    def __call__(self, frame: Frame, detections: Detections) -> Detections:
        """The detections of the next frame that belong to tracks, with their numbers in `tracks`."""
        image_of_folder = frame.time is None and frame.pages == 1
        video = str(PurePosixPath(frame.name).parent) if image_of_folder else frame.name
        starts_again = not image_of_folder and (frame.index < self.last or frame.index == 0)
        if video != self.video or starts_again:
            self._begin(video)
        self.last = frame.index
        self.videos[video] = self.places
        image = (frame.image,) if getattr(self.tracker, "uses_image", False) else ()
        tracked = self.tracker.update(detections, self._embeddings(frame, detections), *image)
        self._count(tracked)
        active = self.tracker.active  # a number never comes again
        self.trails = {track: trail for track, trail in self.trails.items() if track in active}
        return tracked

    def _count(self, tracked: Detections) -> None:
        """Lengthen the trails, and count at lines and zones."""
        for place in self.places:
            if isinstance(place, Zone):
                place.inside = Counter()
        assert tracked.tracks is not None
        centres = ((tracked.boxes[:, :2] + tracked.boxes[:, 2:]) / 2).tolist()
        for track, label, (x, y) in zip(tracked.tracks.tolist(), tracked.labels.tolist(), centres, strict=True):
            if track not in self.trails:
                self.trails[track] = deque(maxlen=TRAIL)
                self.objects[self.names[label]] += 1
            self.trails[track].append((x, y))
            for place in self.places:
                place.update(track, self.names[label], (x, y))

    def _embeddings(self, frame: Frame, detections: Detections) -> np.ndarray | None:
        """The embeddings (N, D) of the confident detections, zero for the others."""
        if self.embed is None:
            return None
        embeddings = np.zeros((len(detections), self.embed.dimensions))
        confident = (detections.scores >= self.confidence).numpy()
        embeddings[confident] = self.embed(frame.image, detections.boxes.double().numpy()[confident])
        return embeddings

    def draw(self, image: np.ndarray) -> None:
        """Draw trails, lines and zones into the image (H, W, 3), in place."""
        draw_tracks(image, self.trails, self.places)

    def counts(self) -> dict[str, list[dict[str, Any]]]:
        """The counts of every line and zone, by video."""
        return {video: [place.counts() for place in places] for video, places in self.videos.items()}
