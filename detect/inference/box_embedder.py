"""Embeddings of the boxes of an image, each cropped as the training images of the embedder were.

Axes: N boxes, D values of an embedding.
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
    """Image (H, W, 3) uint8 RGB and boxes (N, 4) xyxy to embeddings (N, D) float32, which `distance` compares.

    Args:
        detector: an embedder, as `Detector.load` returns it.
    """

    def __init__(self, detector: Any) -> None:
        self.predictor, self.stretch = detector.predictor(Postprocess(), batch=16), detector.metadata.preprocess.stretch
        self.distance: Distance = detector.model.distance()
        self.dimensions: int = detector.model.config.dimensions

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        crops = (Frame(crop, "") for crop in crop_boxes(image, boxes, self.stretch))
        embeddings = [embedding.values for _, embedding in self.predictor(crops)]
        return np.array(embeddings, dtype=np.float32).reshape(-1, self.dimensions)


def crop_boxes(image: np.ndarray, boxes: np.ndarray, stretch: bool) -> list[np.ndarray]:
    """The crop of each box (N, 4) xyxy of an image (H, W, 3) as the network takes it: see `views`."""
    height, width = image.shape[:2]
    room = np.tile([[width, height] * 2], (len(boxes), 1))
    return [image[y0:y1, x0:x1] for x0, y0, x1, y1 in views(boxes, room, stretch).tolist()]


def require_embedder(detector: Any, path: str | Path) -> None:
    """Raise a UserError for weights of another task."""
    if not get_task(detector.model.task).makes_embeddings:
        raise UserError(f"{path} is no embedder (its task is {detector.model.task}): train one with --model embedder")
