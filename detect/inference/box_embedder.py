"""What boxes of a picture show, as vectors: an embedder's view of each, cut out as its training pictures were.

Axes: N boxes, D numbers of a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detect.data.datasets.crops import views
from detect.errors import UserError
from detect.tasks import get_task
from detect.types import Distance, Frame, Postprocess


class BoxEmbedder:
    """(picture (H, W, 3) uint8 RGB, boxes (N, 4) xyxy) -> vectors (N, D) float32; `distance` compares two of them.

    `detector` is an embedder, as `Detector.load` gives it.
    """

    def __init__(self, detector: Any) -> None:
        self.predictor, self.stretch = detector.predictor(Postprocess(), batch=16), detector.metadata.pixels.stretch
        self.distance: Distance = detector.model.distance()
        self.dimensions: int = detector.model.config.dimensions

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        found = [
            one.values for _, one in self.predictor(Frame(cut, "") for cut in crop_boxes(image, boxes, self.stretch))
        ]
        return np.array(found, dtype=np.float32).reshape(-1, self.dimensions)


def crop_boxes(image: np.ndarray, boxes: np.ndarray, stretch: bool) -> list[np.ndarray]:
    """What a network sees of each box (N, 4) xyxy of a picture (H, W, 3): see `views`."""
    height, width = image.shape[:2]
    room = np.tile([[width, height] * 2], (len(boxes), 1))
    return [image[y0:y1, x0:x1] for x0, y0, x1, y1 in views(boxes, room, stretch).tolist()]


def require_embedder(detector: Any, path: str | Path) -> None:
    """Raises UserError for weights of another task."""
    if not get_task(detector.model.task).makes_embeddings:
        raise UserError(f"{path} is no embedder (its task is {detector.model.task}): train one with --model embedder")
