"""Images as tensors, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detect.data.images import resize

WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def covering(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image scaled until it covers (height, width), and its middle cut out."""
    scale = max(height / image.shape[0], width / image.shape[1])
    scaled = resize(image, max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def as_numbers(image: np.ndarray, device: torch.device) -> Tensor:
    """(1, 3, H, W) in 0..1 of an image (H, W, 3) uint8."""
    return torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float() / 255


def as_picture(image: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of (1, 3, H, W) in 0..1."""
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
