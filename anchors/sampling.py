"""Which of many priors or regions a loss looks at: a drawn few, so that those without an object do not outvote all."""

import torch
from torch import Tensor

from anchors.assign.truth import NONE


def sampled(index: Tensor, most: int, share: float) -> Tensor:
    """A mask (B, A) of at most `most` entries a row of index (B, A), as in Assignment, drawn evenly with torch's seed.

    At most that `share` of them answer for an object, the others for none; what is ignored is never drawn (Ren et al.
    2015, section 3.1.3).
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
