"""Pictures scaled and placed straight onto the training canvas: one alone, or four as a mosaic (YOLOv4, 2004.10934)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detect.config import AugmentConfig
from detect.data.augment import Move, place
from detect.data.images import resize
from detect.types import Target


class Tile(NamedTuple):
    """A picture (h, w, 3) uint8, perhaps smaller than its source, and the source's truth in source pixels."""

    image: np.ndarray
    target: Target


def paste(canvas: np.ndarray, tile: Tile, corner: tuple[float, float], zoom: float) -> Move:
    """Draw the tile enlarged `zoom` times with its top left corner at (x, y), and say how its source pixels moved.

    Only the part that the canvas shows is resized, a whole number of source pixels onto a whole number of canvas
    pixels. The move is that very map (each axis's scale is the quotient of the two numbers), so it is exact.
    """
    shown, read = [], []
    for start, source, room in zip(corner, tile.image.shape[1::-1], canvas.shape[1::-1], strict=True):
        low, high = max(0, round(start)), min(room, round(start + source * zoom))
        first = min(max(0, round((low - start) / zoom)), source - 1)
        last = min(max(first + 1, round((high - start) / zoom)), source)
        shown.append((low, max(low, high)))
        read.append((first, last))
    (x0, x1), (y0, y1) = shown
    (u0, u1), (v0, v1) = read
    if x1 > x0 and y1 > y0:
        resize(tile.image[v0:v1, u0:u1], x1 - x0, y1 - y0, canvas[y0:y1, x0:x1])
    x_scale, y_scale = (x1 - x0) / (u1 - u0), (y1 - y0) / (v1 - v0)
    height, width = tile.target.size
    scale = x_scale * tile.image.shape[1] / width, y_scale * tile.image.shape[0] / height
    return Move(scale, (x0 - u0 * x_scale, y0 - v0 * y_scale), (x0, y0, x1, y1))


def _view(size: int, config: AugmentConfig, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The drawn zoom, and the canvas point (x, y) that the middle of the scene moves to."""
    zoom = max(0.05, rng.uniform(1 - config.scale, 1 + config.scale))
    return zoom, size / 2 + rng.uniform(-config.translate, config.translate, 2) * size


def single(
    tile: Tile, size: int, config: AugmentConfig, rng: np.random.Generator, pad: int
) -> tuple[np.ndarray, Target]:
    """One picture, its long side `size` times the drawn zoom, around the middle of a size x size canvas."""
    zoom, (x, y) = _view(size, config, rng)
    canvas = np.full((size, size, 3), pad, np.uint8)
    height, width = tile.image.shape[:2]
    zoom *= size / max(height, width)
    move = paste(canvas, tile, (x - width * zoom / 2, y - height * zoom / 2), zoom)
    return canvas, place([tile.target], [move], config.visibility, (size, size))


def mosaic(
    tiles: Sequence[Tile], size: int, config: AugmentConfig, rng: np.random.Generator, pad: int
) -> tuple[np.ndarray, Target]:
    """Four pictures that meet in one drawn point, seen through the drawn zoom and shift.

    It is the usual scene of twice the side, cut and scaled to size x size, without ever making the larger picture.
    """
    zoom, middle = _view(size, config, rng)
    x, y = (round(v) for v in middle + rng.uniform(-0.5, 0.5, 2) * size * zoom)
    canvas = np.full((size, size, 3), pad, np.uint8)
    moves = []
    for k, tile in enumerate(tiles):
        height, width = tile.image.shape[:2]
        ratio = zoom * size / max(height, width)
        corner = x - (k % 2 == 0) * width * ratio, y - (k < 2) * height * ratio
        moves.append(paste(canvas, tile, corner, ratio))
    return canvas, place([tile.target for tile in tiles], moves, config.visibility, (size, size))
