"""What is known of keypoints by their names."""

from __future__ import annotations

from collections.abc import Sequence

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


def sigmas(names: Sequence[str]) -> list[float]:
    """The spread of each keypoint: COCO's for its seventeen names, 0.05 for any other."""
    return [COCO_SIGMAS.get(name, SIGMA) for name in names]
