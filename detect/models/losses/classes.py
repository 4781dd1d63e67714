"""Losses of class scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.registry import register

Loss = Callable[[Tensor, Tensor], Tensor]  # logits and targets of one shape -> the loss of each


def soft_targets(logits: Tensor, at: tuple[Tensor, ...], labels: Tensor, weight: Tensor) -> Tensor:
    """Targets shaped like `logits` (…, C): `weight` (P,) at positions `at` and classes `labels` (P,), 0 elsewhere."""
    return torch.zeros_like(logits).index_put((*at, labels), weight.to(logits.dtype))


@register("loss.class", "focal")
def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of each logit, alpha 0.25 and gamma 2 (Lin et al., 2017).

    For targets between 0 and 1 it is as in Li et al., 2020: (1 - p_t)^2 becomes |target - p|^2, least at p = target.
    """
    balance = 0.25 * targets + 0.75 * (1 - targets)
    return balance * (targets - logits.sigmoid()).square() * BCE(logits, targets)


@register("loss.class", "varifocal")
def varifocal(logits: Tensor, targets: Tensor) -> Tensor:
    """Varifocal loss of each logit, alpha 0.75 and gamma 2 (Zhang et al., 2021, equation 2).

    A positive weighs as much as its target, the IoU; of negatives, those with a low score weigh little.
    """
    weight = torch.where(targets > 0, targets, 0.75 * logits.sigmoid().square())
    return weight * BCE(logits, targets)


BCE: Loss = partial(binary_cross_entropy_with_logits, reduction="none")
register("loss.class", "bce")(BCE)


def cross_entropy(
    logits: Tensor, targets: Tensor, used: Tensor, each: Loss = BCE, weights: Tensor | None = None
) -> Tensor:
    """The sum of the losses of logits.

    Args:
        logits: any shape.
        targets: soft targets of that shape.
        used: mask of the leading axes: predictions that count.
        each: the loss of each logit.
        weights: weights (C,) of the classes, the last axis.
    """
    loss = each(logits, targets)
    if weights is not None:
        loss = loss * weights
    used = used.view(*used.shape, *[1] * (loss.ndim - used.ndim))
    return torch.where(used, loss, loss.new_zeros(())).sum()


def softmax_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """The weighted sum of softmax cross-entropies.

    Args:
        logits: (B, C).
        labels: (B,).
        weight: (B,).
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al., 2016, section 7).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    each = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (weight * each).sum()
