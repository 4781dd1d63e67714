"""Embeddings of frames: of the whole image, or of the crop that detectors make of it first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detect.api import Detector
from detect.config.fusion import FusionConfig
from detect.data.alignment import aligned
from detect.ensemble import members_of, open_detector
from detect.errors import UserError
from detect.inference.box_embedder import crop_boxes, require_embedder
from detect.inference.embedding_fusion import EmbeddingFusion
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

    Attributes:
        distance: of two embeddings.
        dimensions: length of an embedding.
        shares: weight of each embedder; they add up to 1.

    Args:
        weights: weights of an embedder, or of several, whose embeddings are joined: see `EmbeddingFusion`.
        detectors: weights of detectors or landmarkers. Default: embed the whole image.
        device: where the models run.
        precision: what they compute in.
        shares: weight of each embedder. Default: all count the same.

    Raises:
        UserError: weights cannot be used, or not with one another.
    """

    def __init__(
        self,
        weights: Sequence[str],
        detectors: Sequence[str],
        device: str,
        precision: str,
        shares: Sequence[float] = (),
    ) -> None:
        fusion = FusionConfig(weights=list(shares))
        members = members_of(open_detector(weights, device, precision, fusion))
        for member, path in zip(members, weights, strict=True):
            require_embedder(member, path)
        self.weights = weights
        self._fuse = EmbeddingFusion(members, weights, fusion)
        self._embedders = [(one.metadata.preprocess.stretch, one.predictor(Postprocess())) for one in members]
        self.distance, self.dimensions, self.shares = self._fuse.distance, self._fuse.dimensions, self._fuse.shares
        self.croppers = [Cropper(path, device, precision) for path in detectors]
        self.nothing_detected = f"{' and '.join(detectors)} detect{'s' * (len(detectors) == 1)} nothing in it to crop"

    def __call__(self, frame: Frame) -> np.ndarray | None:
        """The embedding (D,) of a frame; None where a detector detects nothing."""
        crops = {stretch: self._cropped(frame.image, stretch) for stretch in {one for one, _ in self._embedders}}
        found = []
        for stretch, predictor in self._embedders:
            if (crop := crops[stretch]) is None:
                return None
            ((_, embedding),) = predictor([replace(frame, image=crop)])
            found.append(embedding)
        return self._fuse(Postprocess(), found).values

    def _cropped(self, image: np.ndarray, stretch: bool) -> np.ndarray | None:
        """The crop of an image for embedders that `stretch` it or not; None where a detector detects nothing."""
        stretches = [*(cropper.stretch for cropper in self.croppers[1:]), stretch]
        crop: np.ndarray | None = image
        for cropper, wanted in zip(self.croppers, stretches, strict=False):
            if crop is not None:
                crop = cropper(crop, wanted)
        return crop

    def threshold(self, given: float, name: str) -> float:
        """`given`, or where it is 0 the threshold `name` of the weights.

        Raises:
            UserError: they have none, or there are several, whose joined distance is another one.
        """
        known = self._fuse.metadata.thresholds
        if not given and len(self.weights) > 1:
            raise UserError(
                f"{' and '.join(self.weights)} have no threshold together: give --threshold; `detect evaluate` with "
                "these --weights prints thresholds of their joined distance"
            )
        if not given and name not in known:
            raise UserError(
                f"{self.weights[0]} has no threshold, since it was not evaluated on pairs: give --threshold"
            )
        return given or known[name]
