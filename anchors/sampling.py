"""Sampling of priors or regions for a loss, so that those without an object do not dominate it."""

import torch
from torch import Tensor

from anchors.assign.truth import NONE


def sampled(index: Tensor, most: int, share: float) -> Tensor:
    """A random mask (B, A) of at most `most` entries in each row of an assignment, drawn evenly with torch's seed.

    Args:
        index: (B, A), as in Assignment; ignored entries are never drawn.
        most: entries of a row.
        share: at most that share of them is assigned to an object (Ren et al. 2015, section 3.1.3).
    """
    draw = torch.rand(index.shape, device=index.device)
    limit = torch.full((len(index), 1), int(most * share), device=index.device)
    positive = _first(draw, index >= 0, limit)
    return positive | _first(draw, index == NONE, most - positive.sum(1, keepdim=True))


def _first(draw: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """The `count` (B, 1) least of `draw` (B, A) in each row of the mask `among` (B, A), as a mask."""
    order = draw.masked_fill(~among, 2).argsort(dim=1, stable=True)
    place = torch.arange(draw.shape[1], device=draw.device).expand_as(order)
    return among & (torch.empty_like(order).scatter(1, order, place) < count)
