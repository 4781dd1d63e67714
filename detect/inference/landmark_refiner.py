"""Landmarks by looking again: at the picture turned, shifted and scaled so that the points lie where training had them.

The points that are first found in a face that is small, turned or at the side of its picture are rough, but good enough
to bring it nearer to what the network knows; so each look corrects the one before (cascaded pose regression; Dollar et
al., 2010).
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
    """A predictor that looks at each picture several times; `shape` (K, 2) is the metadata's.

    `predictor` must answer whatever its scores; `keep` says from which score the last answer counts.
    """

    def __init__(self, predictor: Any, shape: np.ndarray, keep: Postprocess, looks: int = PASSES) -> None:
        self.predictor, self.shape, self.keep, self.looks = predictor, shape, keep, looks

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Detections], None, None]:
        """Each frame with its one record, in its own pixels, or none."""
        with closing(self.predictor(frames)) as first:
            for frame, found in first:
                for _ in range(self.looks - 1):
                    found = self._again(frame, found)
                apart = (found.boxes[:, 2:] > found.boxes[:, :2]).all(1)  # an answer may leave the picture altogether
                yield frame, found[apart & (found.scores > self.keep.score)]

    def _again(self, frame: Frame, found: Detections) -> Detections:
        if found.keypoints is None or not len(found):
            return found
        pose = Pose.of(found.keypoints[0].double().numpy(), self.shape)
        if not (side := pose.side(frame.image)):
            return found
        ((_, seen),) = self.predictor([replace(frame, image=pose.view(frame.image))])
        if seen.keypoints is None or not len(seen):
            return found
        points = torch.from_numpy(pose.undo(seen.keypoints[0].double().numpy(), side)).float()
        height, width = frame.image.shape[:2]
        room = torch.tensor([width, height] * 2, dtype=torch.float32)
        box = around(points).clamp(torch.zeros(4), room)
        return replace(seen, boxes=box[None], keypoints=points[None])
