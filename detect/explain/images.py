"""Draws filters, feature maps, heat maps and grids of tiles. Images are (h, w, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

GAP, BEHIND = 4, (205, 215, 230)  # light, but neither white nor grey, which have a meaning in tiles


def filter_tile(weight: Tensor, bgr: bool, side: int = 48) -> np.ndarray:
    """A filter (C, h, w): in colour if C is 3, else its mean over C. Grey is 0; black and white are the extremes."""
    values = weight.detach().float().cpu().numpy()
    if len(values) == 3:
        values = values[::-1] if bgr else values
    else:
        values = values.mean(0, keepdims=True).repeat(3, 0)
    return cv2.resize(_signed(values.transpose(1, 2, 0)), (side, side), interpolation=cv2.INTER_NEAREST)


def map_tile(values: Tensor, side: int) -> np.ndarray:
    """A map (h, w) with a longer side of `side` pixels: 0 is black, the maximum white; or 0 grey."""
    shown = values.detach().float().cpu().numpy()[..., None].repeat(3, 2)
    scale = side / max(shown.shape[:2])
    size = max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale))
    most = max(float(np.abs(shown).max()), 1e-12)
    tile = _signed(shown) if shown.min() < 0 else (255 * shown / most).round().astype(np.uint8)
    return cv2.resize(tile, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def overlay_heat(image: np.ndarray, heat: Tensor) -> np.ndarray:
    """The image (h, w, 3) blended with a heat map (h, w) from 0 (blue) to 1 (red)."""
    colours = cv2.applyColorMap((255 * heat.cpu().numpy()).round().astype(np.uint8), cv2.COLORMAP_JET)
    return cv2.addWeighted(image, 0.5, np.ascontiguousarray(colours[..., ::-1]), 0.5, 0)


def grid(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles in rows of `columns`; a row is as high as its highest tile."""
    rows = [row(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    width = max(one.shape[1] for one in rows)
    return np.vstack([_framed(one, one.shape[0] + GAP, width) for one in rows])


def row(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles side by side."""
    height = max(one.shape[0] for one in tiles)
    return np.hstack([_framed(one, height, one.shape[1] + GAP) for one in tiles])


def _framed(image: np.ndarray, height: int, width: int) -> np.ndarray:
    low, right = height - image.shape[0], width - image.shape[1]
    return cv2.copyMakeBorder(image, 0, low, 0, right, cv2.BORDER_CONSTANT, value=BEHIND)


def _signed(values: np.ndarray) -> np.ndarray:
    return (127.5 + 127.5 * values / max(float(np.abs(values).max()), 1e-12)).round().astype(np.uint8)
