"""Bilinear interpolation as a product of matrices: one matrix of weights for the rows, one for the columns."""

from __future__ import annotations

import torch
from torch import Tensor


def bilinear_weights(positions: Tensor, cells: int) -> Tensor:
    """The share of each cell in the value at each position; the values then are `weights @ cells`.

    Args:
        positions: (..., P) in cells: the middle of cell i lies at i. Outside of all cells the value fades to 0 within
            one cell; positions that are clamped to 0..cells - 1 repeat the outermost cells instead.
        cells: C, the number of cells.

    Returns:
        (..., P, C) weights.
    """
    distance = positions[..., None] - torch.arange(cells, dtype=positions.dtype, device=positions.device)
    return (1 - distance.abs()).clamp(min=0)
