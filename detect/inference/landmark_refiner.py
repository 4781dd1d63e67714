"""Refines landmarks by predicting the image again, aligned to where landmarks lay in training.

The first prediction for a face that is small, turned or at the side of its image is rough, but good enough to align the
image; each pass then corrects the one before (cascaded pose regression; Dollar et al., 2010).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detect.data.alignment import Pose
from detect.models.keypoints import around
from detect.types import Detections, Frame, Postprocess

PASSES = 3


class LandmarkRefiner:
    """A predictor that runs several passes over each image.

    Args:
        predictor: a landmarker's, which must keep results of any score.
        shape: the mean shape (K, 2) of the metadata.
        keep: the least score of the refined result.
        passes: how many, the first included.
    """

    def __init__(self, predictor: Any, shape: np.ndarray, keep: Postprocess, passes: int = PASSES) -> None:
        self.predictor, self.shape, self.keep, self.passes = predictor, shape, keep, passes

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Detections], None, None]:
        """Each frame with one detection, or none, in pixels of the frame."""
        with closing(self.predictor(frames)) as first:
            for frame, detections in first:
                for _ in range(self.passes - 1):
                    detections = self._refine(frame, detections)
                inside = (detections.boxes[:, 2:] > detections.boxes[:, :2]).all(1)  # all landmarks may lie outside
                yield frame, detections[inside & (detections.scores > self.keep.score)]

    def _refine(self, frame: Frame, detections: Detections) -> Detections:
        if detections.keypoints is None or not len(detections):
            return detections
        pose = Pose.of(detections.keypoints[0].double().numpy(), self.shape)
        if not (side := pose.side(frame.image)):
            return detections
        ((_, seen),) = self.predictor([replace(frame, image=pose.view(frame.image))])
        if seen.keypoints is None or not len(seen):
            return detections
        points = torch.from_numpy(pose.undo(seen.keypoints[0].double().numpy(), side)).float()
        height, width = frame.image.shape[:2]
        room = torch.tensor([width, height] * 2, dtype=torch.float32)
        box = around(points).clamp(torch.zeros(4), room)
        return replace(seen, boxes=box[None], keypoints=points[None])
