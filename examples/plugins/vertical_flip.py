"""A transform that turns images upside down, with their boxes and keypoints: for aerial and microscope images.

detect train --plugin ./vertical_flip.py --data toy --augment.transforms "[{vertical_flip: {p: 0.5}}]"
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from detect.registry import register
from detect.types import Target


@register("transform", "vertical_flip")
class VerticalFlip:
    """Flip an image with probability `p`. Every draw is from `rng`, so that a run can be repeated."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}: it must be from 0 to 1")
        self.p = p

    def __call__(self, image: np.ndarray, target: Target, rng: np.random.Generator) -> tuple[np.ndarray, Target]:
        """Args: image (H, W, 3) uint8 RGB, and its target. Returns both, flipped or as they are."""
        if rng.random() >= self.p:
            return image, target
        height, keypoints = image.shape[0], target.keypoints
        if keypoints is not None:
            keypoints = keypoints.clone()
            keypoints[..., 1] = (height - keypoints[..., 1]) * (keypoints[..., 2] > 0)
        proposals = None if target.proposals is None else flipped(target.proposals, height)
        turned = replace(target, boxes=flipped(target.boxes, height), keypoints=keypoints, proposals=proposals)
        return np.ascontiguousarray(image[::-1]), turned


def flipped(boxes: Tensor, height: int) -> Tensor:
    """Boxes (N, 4) xyxy of an image of this height, upside down."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([left, height - bottom, right, height - top], dim=1)
