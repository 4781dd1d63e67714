"""An image that shows where tracks have been: their density over the first frame of each video."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detect.data.image_writer import save_image
from detect.inference.output_folder import OutputPaths
from detect.inference.sink import Sink
from detect.tracking.motion import points_of
from detect.types import Frame

if TYPE_CHECKING:
    from detect.tracking.video_tracker import VideoTracker

CELL = 4  # pixels of a cell, along each side
SPREAD = 0.02  # standard deviation of the blur around each place, as a share of the longer side


class HeatmapSink(Sink):
    """NAME-heatmap.png of each video: how often tracks were at each place, blurred, over its first frame.

    Args:
        paths: names of the files.
        tracker: says which video a frame is of, and which point of a box counts.
    """

    def __init__(self, paths: OutputPaths, tracker: VideoTracker) -> None:
        self.paths, self.tracker, self.video = paths, tracker, ""
        self.image: np.ndarray | None = None

    def write(self, frame: Frame, result: Any, annotated: np.ndarray) -> None:
        if self.image is None or self.video != self.tracker.video:
            self.close()
            self.video, self.image = self.tracker.video, frame.image.copy()
            self.heat = np.zeros([-(-side // CELL) for side in frame.image.shape[:2]], np.float32)
        height, width = frame.image.shape[:2]  # images of a folder may differ in size
        places = points_of(result.boxes.double().numpy(), self.tracker.motion.point) / [width, height]
        rows, columns = self.heat.shape
        x, y = (places * [columns, rows]).astype(int).T
        np.add.at(self.heat, (y.clip(0, rows - 1), x.clip(0, columns - 1)), 1)

    def close(self, finished: bool = True) -> None:
        image, self.image = self.image, None
        if image is None:
            return
        video = PurePosixPath(self.video)
        name = video.with_name(f"{video.stem}-heatmap.png") if video.suffix else video / "heatmap.png"
        path = self.paths.written.claim(self.paths.give(name.as_posix(), ".png"))
        save_image(path, heat_over(image, self.heat))


def heat_over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB, grey, with the counts (h, w) blurred over it, from blue to red."""
    height, width = image.shape[:2]
    sigma = max(1.0, SPREAD * max(heat.shape))
    blurred: Any = cv2.GaussianBlur(heat, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    share = cv2.resize(blurred / max(float(blurred.max()), 1e-9), (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((255 * share).round().astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    cover = np.minimum(4 * share, 0.6)[..., None]  # places where nobody was stay grey
    return np.asarray((grey * (1 - cover) + colors * cover).round().astype(np.uint8))
