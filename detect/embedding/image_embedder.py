"""From frames to embeddings: of the whole image, or of what detectors cut out of it first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detect.api import Detector
from detect.data.alignment import aligned
from detect.errors import UserError
from detect.inference.box_embedder import BoxEmbedder, crop_boxes, require_embedder
from detect.tasks import get_task
from detect.types import Frame, Postprocess

SURE = 0.25  # the least score of what a detector cuts out


class Finder:
    """Pictures to what weights find in them: a landmarker's aligned, a detector's best box with its margin."""

    def __init__(self, path: str, device: str, precision: str) -> None:
        detector = Detector.load(path, device, precision)
        self.shape = np.array(detector.metadata.shape)
        task = get_task(detector.model.task)
        if not task.detects_objects and not len(self.shape):
            if task.match_keypoints:
                raise UserError(f"--detector {path} does not know where its points lie on average: train it again")
            raise UserError(f"--detector {path} is no detector: it must find boxes, or landmarks")
        self.predictor, self.stretch = detector.predictor(Postprocess(SURE, limit=1)), detector.metadata.pixels.stretch

    def __call__(self, image: np.ndarray, stretch: bool) -> np.ndarray | None:
        """What is found in a picture (H, W, 3), cut out for a network that will `stretch` it or not; None: nothing."""
        ((_, found),) = self.predictor([Frame(image, "")])
        if len(self.shape):
            return aligned(image, found, self.shape)
        return next(iter(crop_boxes(image, found.boxes[:1].double().numpy(), stretch)), None)


class Eyes:
    """Frames to vectors, of the whole picture or of what finders find in it first, one after the other."""

    def __init__(self, weights: str, detectors: Sequence[str], device: str, precision: str) -> None:
        self.embedder = Detector.load(weights, device, precision)
        require_embedder(self.embedder, weights)
        self.describe = BoxEmbedder(self.embedder)
        self.finders = [Finder(path, device, precision) for path in detectors]
        self.blind = f"{' and '.join(detectors)} find{'s' * (len(detectors) == 1)} nothing in it to cut out"

    def __call__(self, frame: Frame) -> np.ndarray | None:
        """The vector (D,) of a frame; None where there is nothing to cut out."""
        stretches = [*(finder.stretch for finder in self.finders[1:]), self.describe.stretch]
        image: np.ndarray | None = frame.image
        for finder, stretch in zip(self.finders, stretches, strict=False):
            if image is not None:
                image = finder(image, stretch)
        if image is None:
            return None
        ((_, one),) = self.describe.predictor([replace(frame, image=image)])
        return one.values

    def threshold(self, given: float, name: str, weights: str) -> float:
        """`given`, or the threshold of the weights called `name`. Raises UserError where they have none."""
        known = self.embedder.metadata.thresholds
        if not given and name not in known:
            raise UserError(f"{weights} has no threshold, for it was not measured on held-out pairs: give --threshold")
        return given or known[name]
