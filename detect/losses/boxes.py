"""Losses over boxes and their codes; each gives one value a box, unreduced."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def distribution_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss (Li et al., 2020, eq. 6): cross-entropy to the two bins around each distance.

    logits (P, 4, bins), distances (P, 4) in bins -> (P,), the mean over the four sides.
    """
    bins = logits.shape[-1]
    distances = distances.clamp(0, bins - 1 - 1e-3)
    lower = distances.long()
    share = (distances - lower).to(logits.dtype)
    logp = log_softmax(logits, -1)
    low = logp.gather(-1, lower[..., None]).squeeze(-1)
    high = logp.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -torch.lerp(low, high, share).mean(-1)
