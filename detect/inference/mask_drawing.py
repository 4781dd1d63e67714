"""Draws masks: translucent, with a contour, each in the window of the image that it covers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detect.inference.label_placement import Rectangle
from detect.inference.palette import Color
from detect.masks import RleMasks

OPACITY = 0.45  # share of the colour in the pixels of a mask


def draw_masks(annotated: np.ndarray, masks: RleMasks, colors: Sequence[Color], width: int) -> list[Rectangle | None]:
    """Draw masks into the image (H, W, 3) uint8 RGB, in place; small ones lie on large ones.

    Args:
        annotated: changed inside the masks alone.
        masks: N, of this image.
        colors: N.
        width: of the contours, which lie inside the masks, in pixels.

    Returns:
        Where a label may hang from each mask: a rectangle as wide as its uppermost row and as high as the mask; None
        for an empty mask.
    """
    found: list[Rectangle | None] = [None] * len(masks)
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    for i in masks.by_area():
        left, top, mask = masks.window(i)
        if mask.size:
            part = annotated[top : top + mask.shape[0], left : left + mask.shape[1]]
            area = mask.view(np.uint8) * np.uint8(255)
            core = cv2.erode(area, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
            plain = cv2.rectangle(np.empty(part.shape, np.uint8), (0, 0), part.shape[1::-1], colors[i], -1)
            cv2.copyTo(cv2.addWeighted(part, 1 - OPACITY, plain, OPACITY, 0), core, part)
            cv2.copyTo(plain, area - core, part)
            columns = np.flatnonzero(mask[0])
            found[i] = left + int(columns[0]), top, left + int(columns[-1]) + 1, top + mask.shape[0]
    return found
