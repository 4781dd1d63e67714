"""Converts images to tensors and back, and crops them to a size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detect.data.images import resize

WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def cover_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The image scaled to cover (height, width), and its centre crop of that size."""
    scale = max(height / image.shape[0], width / image.shape[1])
    scaled = resize(image, max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    """An image (H, W, 3) uint8 as (1, 3, H, W) in 0..1."""
    return torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float() / 255


def to_image(image: Tensor) -> np.ndarray:
    """An image (1, 3, H, W) in 0..1 as (H, W, 3) uint8."""
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
