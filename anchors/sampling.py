"""Random sampling of priors or regions for a loss, so that negatives do not dominate it."""

import torch
from torch import Tensor

from anchors.assign.targets import NONE


def sampled(index: Tensor, most: int, share: float) -> Tensor:
    """Draw a random sample of positives and negatives for each image.

    Entries are drawn uniformly by torch's random generator. Negatives fill the places that positives leave.

    Args:
        index: assigned object (B, A), as in `Assignment`; ignored entries are never drawn.
        most: maximum number of sampled entries per image.
        share: maximum share of positives in `most`.

    Returns:
        Mask (B, A) of the sampled entries.

    Reference:
        Ren et al., Faster R-CNN, 2015, section 3.1.3.
    """
    draw = torch.rand(index.shape, device=index.device)
    limit = torch.full((len(index), 1), int(most * share), device=index.device)
    positive = _first(draw, index >= 0, limit)
    return positive | _first(draw, index == NONE, most - positive.sum(1, keepdim=True))


def _first(draw: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """Return a mask (B, A) of the `count` (B, 1) smallest values of `draw` (B, A) in each row within `among` (B, A)."""
    order = draw.masked_fill(~among, 2).argsort(dim=1, stable=True)
    place = torch.arange(draw.shape[1], device=draw.device).expand_as(order)
    return among & (torch.empty_like(order).scatter(1, order, place) < count)
