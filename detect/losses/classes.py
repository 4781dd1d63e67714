"""Losses over scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def soft_targets(logits: Tensor, at: tuple[Tensor, ...], labels: Tensor, weight: Tensor) -> Tensor:
    """Targets shaped like `logits` (…, C): `weight` (P,) at the places `at` and classes `labels` (P,), 0 elsewhere."""
    return torch.zeros_like(logits).index_put((*at, labels), weight.to(logits.dtype))


def cross_entropy(logits: Tensor, targets: Tensor, used: Tensor) -> Tensor:
    """The sum of binary cross-entropies between logits and soft targets of one shape, over the predictions `used`.

    `used` is a mask of the leading axes.
    """
    loss = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    used = used.view(*used.shape, *[1] * (loss.ndim - used.ndim))
    return torch.where(used, loss, loss.new_zeros(())).sum()
