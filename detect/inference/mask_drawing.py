"""Draws masks: translucent, with a contour, each in the window of the image that it covers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from detect.inference.label_placement import Rectangle
from detect.inference.palette import Color
from detect.masks import RleMasks, Window

OPACITY = 0.45  # share of the colour in the pixels of a mask


def draw_masks(annotated: np.ndarray, masks: RleMasks, colors: Sequence[Color], width: int) -> None:
    """Draw masks into the image (H, W, 3) uint8 RGB, in place; small ones lie on large ones.

    Args:
        annotated: changed inside the masks alone.
        masks: N, of this image.
        colors: N.
        width: of the contours, which lie inside the masks, in pixels.
    """
    for i in masks.by_area():
        left, top, mask = masks.window(i)
        if mask.size:
            part = annotated[top : top + mask.shape[0], left : left + mask.shape[1]]
            area = mask.view(np.uint8) * np.uint8(255)
            cv2.copyTo(cv2.LUT(part, _mixed(colors[i])), area, part)
            core = cv2.erode(
                area, np.ones((2 * width + 1,) * 2, np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
            )
            cv2.copyTo(np.full_like(part, colors[i]), area - core, part)


@lru_cache(maxsize=256)
def _mixed(color: Color) -> np.ndarray:
    """What becomes of each value of each channel (1, 256, 3) under the translucent colour."""
    values = np.arange(256)[:, None] * (1 - OPACITY) + np.array(color) * OPACITY
    return values.round().astype(np.uint8)[None]


def below_top(window: Window) -> Rectangle | None:
    """A rectangle as wide as the uppermost row of a mask and as high as the mask; None for an empty mask."""
    left, top, mask = window
    if not mask.size:
        return None
    columns = np.flatnonzero(mask[0])
    return left + int(columns[0]), top, left + int(columns[-1]) + 1, top + mask.shape[0]
