"""The strong view of an image: colours, blur and erased rectangles, but no pixel moves.

So boxes that are found in the weak view hold in the strong one (Liu et al., 2021, arXiv 2102.09480, table 8).
"""

from __future__ import annotations

import cv2
import numpy as np

from detect.config.augment import AugmentConfig
from detect.data.augment.transforms import jitter

COLOURS = AugmentConfig(hue=0.1, saturation=0.6, value=0.4)
CONTRAST = 0.4
ERASED = ((0.7, 0.2), (0.5, 0.2), (0.3, 0.2))  # of each rectangle: its probability, the largest share of the image


def strong_view(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the colours of (H, W, 3) uint8 RGB, blur it and erase rectangles, each with a probability.

    Args:
        image: changed in place.
        rng: all draws come from it.

    Returns:
        The image.
    """
    if rng.random() < 0.8:
        jitter(image, COLOURS, rng)
        factor, mean = 1 + rng.uniform(-CONTRAST, CONTRAST), float(image.mean())
        cv2.convertScaleAbs(image, dst=image, alpha=factor, beta=max(0.0, mean * (1 - factor)))
    if rng.random() < 0.2:
        image[:] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    if rng.random() < 0.5:
        sigma = rng.uniform(0.1, 2.0) * max(image.shape[:2]) / 640
        cv2.GaussianBlur(image, (0, 0), max(0.1, sigma), dst=image)
    for probability, largest in ERASED:
        if rng.random() < probability:
            erase(image, rng.uniform(0.02, largest), rng)
    return image


def erase(image: np.ndarray, share: float, rng: np.random.Generator) -> None:
    """Fill a random rectangle of (H, W, 3) uint8 with noise, in place (Zhong et al., 2017, arXiv 1708.04896).

    Args:
        image: the image.
        share: the area of the rectangle, as a share of the image's.
        rng: gives its place, its aspect ratio from 1/3 to 3, and its pixels.
    """
    height, width = image.shape[:2]
    ratio = np.exp(rng.uniform(-np.log(3), np.log(3)))
    h = max(1, min(height, round(height * (share * ratio) ** 0.5)))
    w = max(1, min(width, round(width * (share / ratio) ** 0.5)))
    top, left = (int(rng.integers(room + 1)) for room in (height - h, width - w))
    image[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, image.shape[2]), dtype=np.uint8)
