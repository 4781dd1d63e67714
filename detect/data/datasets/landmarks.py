"""Training samples of landmarkers: windows that show one object with keypoints, the largest of its image.

Axes: N objects, K keypoints.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import torch

from detect.config.augment import AugmentConfig
from detect.data.alignment import mean_shape
from detect.data.annotations import Annotations
from detect.data.augment.transforms import Augmenter
from detect.data.datasets.crops import CropDataset, Crops
from detect.data.letterbox import Letterbox
from detect.data.validate import require_skeleton
from detect.errors import UserError
from detect.types import Preprocess, Target
from detect.utils.names import say


@dataclass(frozen=True, eq=False)
class Instances(Crops):
    """One object of each image that has one with labelled keypoints: Crops with `keypoints` (N, K, 3) in its pixels."""

    keypoints: np.ndarray

    @staticmethod
    def of(annotations: Annotations) -> Instances:
        """Choose the largest such box of each image, crowd regions aside. Raises UserError where there is none."""
        if annotations.keypoints is None:
            raise UserError(
                f"{annotations.path}: its categories declare no keypoints, so there are no landmarks to find"
            )
        owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
        rows = np.flatnonzero(~annotations.crowd & (annotations.keypoints[..., 2] > 0).any(1))
        if not len(rows):
            raise UserError(f"{annotations.path}: no object (crowd regions aside) has a labelled keypoint")
        rows = rows[np.lexsort((-annotations.boxes[rows, 2:].prod(1), owner[rows]))]
        rows = rows[np.unique(owner[rows], return_index=True)[1]]
        boxes = annotations.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        return Instances(
            annotations,
            owner[rows],
            boxes,
            annotations.labels[rows],
            annotations.ids[rows],
            annotations.keypoints[rows],
        )

    def shape(self, pixels: Preprocess) -> np.ndarray:
        """Return the mean position (K, 2) of the points in a window of side 1 (see `mean_shape`)."""
        corner, sides = np.split(self.windows(pixels.stretch)[:, None].astype(float), 2, axis=2)
        sides = sides - corner
        canvas = sides if pixels.stretch else sides.max(axis=2, keepdims=True)
        room = (canvas - sides) / 2 if pixels.alignment == "center" else 0.0
        return mean_shape((self.keypoints[..., :2] - corner + room) / canvas, self.keypoints[..., 2] > 0)


class LandmarkDataset(CropDataset):
    """Training samples of instances: (image (size, size, 3) uint8 RGB, Target of one object with its points).

    Augmentation is that of crops, and box and points go along; of a mirrored image the points of a pair change
    places. A point that leaves the canvas has visibility 0 from then on. UserError: mirroring of points whose sides
    nobody named.
    """

    crops: Instances

    def _augmenter(self, config: AugmentConfig) -> Augmenter:
        annotations = self.crops.annotations
        return Augmenter(config, self.preprocess, annotations.keypoint_names, annotations.flip_pairs)

    def window_target(self, index: int) -> Target:
        """Return the object with its points, in pixels of its window at full size."""
        left, top, right, bottom = self.windows[index].tolist()
        size = (bottom - top, right - left)
        points = self.crops.keypoints[index : index + 1] - np.array([left, top, 0])
        box = self.crops.boxes[index : index + 1] - np.array([left, top] * 2)
        whole = self.crops.target(index, size)
        return replace(whole, boxes=torch.from_numpy(box).float(), keypoints=torch.from_numpy(points).float())

    def final_target(self, index: int, moved: Target) -> Target:
        """Return the moved target."""
        return moved

    def sample(self, index: int) -> tuple[np.ndarray, Target, Letterbox]:
        """Return the object on its canvas; the letterbox is that of its window, in pixels of the image."""
        left, top, right, bottom = self.windows[index].tolist()
        fit = Letterbox.fit((bottom - top, right - left), self.size, self.preprocess, square=True)
        window = self.window_target(index)
        points = None if window.keypoints is None else fit.forward(window.keypoints)
        target = replace(window, boxes=fit.forward(window.boxes), keypoints=points, size=fit.canvas)
        image = self._fit(index, self.size).apply(self.window(index))
        return image, target, replace(fit, corner=(left, top))


def require_points(annotations: Annotations, validation: Annotations) -> None:
    """Raises UserError where a split has no labelled keypoint, or the two declare different ones.

    Tells of images that show nothing with labelled keypoints: there is nothing in them to learn or to measure.
    """
    for one in (annotations, validation):
        if empty := len(one) - len(Instances.of(one)):
            say(f"{one.path}: {empty} of {len(one)} images have no labelled keypoints: not used", file=sys.stderr)
    require_skeleton(annotations)
    if annotations.keypoint_names != validation.keypoint_names:
        raise UserError(f"{annotations.path} and {validation.path} declare different keypoints: make them the same")
