"""Keypoints: their spread by name, and which of the predicted ones are visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# How far people differ in marking a point, as a share of the root of the object's area (COCO keypoint evaluation).
COCO_SIGMAS = {
    "nose": 0.026,
    "left_eye": 0.025,
    "right_eye": 0.025,
    "left_ear": 0.035,
    "right_ear": 0.035,
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
}
SIGMA = 0.05  # of a point that COCO does not know: about their mean
SEEN = 0.5  # the probability from which a point counts as there


def sigmas(names: Sequence[str]) -> list[float]:
    """The spread of each keypoint: the one of COCO for its seventeen names, 0.05 for any other."""
    return [COCO_SIGMAS.get(name, SIGMA) for name in names]


def seen(presence: np.ndarray) -> np.ndarray:
    """Which of K keypoints are visible, by their probabilities (K,); all of them if none is."""
    there = presence >= SEEN
    return there if there.any() else ~there


def around(points: Tensor) -> Tensor:
    """The box (4,) around the visible ones of the keypoints (K, 3), on the CPU."""
    there = points[seen(points[:, 2].numpy()), :2]
    return torch.cat([there.amin(0), there.amax(0)])
