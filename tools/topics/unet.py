"""Semantic segmentation: a transposed convolution number by number, U-Net, and the classes of pixels it learns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d

from tools.drawing import INK, blocks, numbers, sheet, write

IMAGE, FILTER = np.array([[2, 1], [3, 2]]), np.array([[1, 2, 1], [2, 0, 1], [0, 2, 1]])
STRIDE, PADDING = 2, 1
SIDE = 6  # of the canvas that filters are laid on: 4 and the padding at both ends
CELL = 30


def draw() -> dict[str, np.ndarray]:
    """The course's transposed convolution, and the maps of U-Net."""
    return {"unet_transposed": _by_hand(), "unet": _network()}


def laid(row: int, column: int) -> np.ndarray:
    """What the pixel at (row, column) adds to the canvas (SIDE, SIDE): the filter times its value."""
    canvas = np.zeros((SIDE, SIDE))
    top, left = STRIDE * row, STRIDE * column
    canvas[top : top + 3, left : left + 3] = IMAGE[row, column] * FILTER
    return canvas


def transposed() -> Tensor:
    """The output (4, 4) as torch computes it."""
    image, weights = (torch.tensor(x, dtype=torch.float32)[None, None] for x in (IMAGE, FILTER))
    return conv_transpose2d(image, weights, stride=STRIDE, padding=PADDING, output_padding=1)[0, 0]


def _by_hand() -> np.ndarray:
    border = np.ones((SIDE, SIDE), bool)
    border[PADDING:-PADDING, PADDING:-PADDING] = False
    tiles = [("input 2 × 2", numbers(IMAGE, CELL)), ("filter 3 × 3", numbers(FILTER, CELL))]
    parts = [laid(row, column) for row in range(2) for column in range(2)]
    tiles += [
        (f"{IMAGE.flat[i]} · filter, {i % 2 * STRIDE} right, {i // 2 * STRIDE} down", numbers(part, CELL, muted=border))
        for i, part in enumerate(parts)
    ]
    return sheet([*tiles, ("their sum", numbers(sum(parts), CELL, muted=border)), ("output 4 × 4", _output())], 4)


def _output() -> np.ndarray:
    return numbers(transposed().numpy(), CELL)


def _network() -> np.ndarray:
    """The maps of the contracting path and of the expanding one, for the paper's widths on 512 pixels."""
    down = [(f"level {i}", (64 * 2**i, 512 // 2**i, 512 // 2**i)) for i in range(5)]
    up = [(f"level {i}\n+ skip {i}", (64 * 2**i, 512 // 2**i, 512 // 2**i)) for i in reversed(range(4))]
    drawn = blocks([("image", (3, 512, 512)), *down, *up, ("classes", (3, 512, 512))], 0.3, 14)
    text = np.full((30, drawn.shape[1], 3), 255, np.uint8)
    write(text, "down: two 3 × 3 convolutions, then 2 × 2 max pooling", (10, 4), 15, INK)
    write(text, "up: transposed 2 × 2, skip beside it, two 3 × 3", (drawn.shape[1] // 2, 4), 15, INK)
    return np.concatenate([text, drawn])
