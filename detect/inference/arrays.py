"""Images that are given as arrays, PIL images or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from detect.data.images import from_pillow
from detect.errors import UserError


def as_rgb(image: Any, name: str = "image") -> np.ndarray:
    """An array, PIL image or tensor as (H, W, 3) uint8 RGB.

    Raises:
        UserError: it has another form; the message says how to convert it.
    """
    if isinstance(image, Image.Image):
        return from_pillow(image, name)
    form = f"{type(image).__name__} {tuple(getattr(image, 'shape', ()))} {getattr(image, 'dtype', '')}".strip()
    if isinstance(image, torch.Tensor) and image.ndim == 3 and image.shape[0] == 3:
        values = image.detach().cpu()
        if values.is_floating_point() and values.numel() and 0 <= float(values.min()) <= float(values.max()) <= 1:
            values = (values * 255).round().to(torch.uint8)
        image = values.permute(1, 2, 0).numpy() if values.dtype == torch.uint8 else None
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return np.ascontiguousarray(image)
    raise UserError(f"{name}: {form} is not an image: {_remedy(image)}")


def _remedy(image: Any) -> str:
    """How to turn what was given into an image; only its owner knows the range or the order of its channels."""
    if isinstance(image, np.ndarray) and image.ndim in (2, 3) and image.size:
        if image.dtype == np.uint8 and image.shape[-1] == 4:
            return "give its RGB channels alone, image[..., :3] if they are in this order"
        if image.dtype == np.uint16:
            return "give (image >> 8).astype('uint8') if it uses all 16 bits"
        if np.issubdtype(image.dtype, np.floating):
            return "give (image * 255).round().astype('uint8') if it is in 0..1"
    return "give (H, W, 3) uint8 RGB, a PIL image, or a tensor (3, H, W) uint8 or float 0..1"
