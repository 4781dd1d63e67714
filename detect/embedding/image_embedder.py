"""Embeddings of frames: of the whole image, or of the crop that detectors make of it first."""

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

CONF = 0.25  # least score of a box that is cropped


class Cropper:
    """Crops images to what a model detects: the best box with a margin, or the object aligned by its landmarks.

    Args:
        path: weights of a detector or a landmarker.
        device: where it runs.
        precision: what it computes in.

    Raises:
        UserError: the weights are of another task, or know no mean shape to align to.
    """

    def __init__(self, path: str, device: str, precision: str) -> None:
        detector = Detector.load(path, device, precision)
        self.shape = np.array(detector.metadata.shape)
        task = get_task(detector.model.task)
        if not task.detects_objects and not len(self.shape):
            if task.match_keypoints:
                raise UserError(f"--detector {path} has no mean shape of its landmarks to align to: train it again")
            raise UserError(f"--detector {path} is no detector: give weights that detect boxes, or landmarks")
        self.predictor, self.stretch = (
            detector.predictor(Postprocess(CONF, limit=1)),
            detector.metadata.preprocess.stretch,
        )

    def __call__(self, image: np.ndarray, stretch: bool) -> np.ndarray | None:
        """The crop of an image (H, W, 3) for a network that will `stretch` it or not; None if nothing is detected."""
        ((_, found),) = self.predictor([Frame(image, "")])
        if len(self.shape):
            return aligned(image, found, self.shape)
        return next(iter(crop_boxes(image, found.boxes[:1].double().numpy(), stretch)), None)


class ImageEmbedder:
    """Embeds frames, after cropping them by detectors, one after the other.

    Args:
        weights: weights of an embedder.
        detectors: weights of detectors or landmarkers. Default: embed the whole image.
        device: where the models run.
        precision: what they compute in.
    """

    def __init__(self, weights: str, detectors: Sequence[str], device: str, precision: str) -> None:
        self.embedder = Detector.load(weights, device, precision)
        require_embedder(self.embedder, weights)
        self.embed_boxes = BoxEmbedder(self.embedder)
        self.croppers = [Cropper(path, device, precision) for path in detectors]
        self.nothing_detected = f"{' and '.join(detectors)} detect{'s' * (len(detectors) == 1)} nothing in it to crop"

    def __call__(self, frame: Frame) -> np.ndarray | None:
        """The embedding (D,) of a frame; None where a detector detects nothing."""
        stretches = [*(cropper.stretch for cropper in self.croppers[1:]), self.embed_boxes.stretch]
        image: np.ndarray | None = frame.image
        for cropper, stretch in zip(self.croppers, stretches, strict=False):
            if image is not None:
                image = cropper(image, stretch)
        if image is None:
            return None
        ((_, one),) = self.embed_boxes.predictor([replace(frame, image=image)])
        return one.values

    def threshold(self, given: float, name: str, weights: str) -> float:
        """`given`, or where it is 0 the threshold `name` of the weights. Raises UserError where they have none."""
        known = self.embedder.metadata.thresholds
        if not given and name not in known:
            raise UserError(f"{weights} has no threshold, since it was not evaluated on pairs: give --threshold")
        return given or known[name]
