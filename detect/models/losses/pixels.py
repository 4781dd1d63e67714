"""Losses of class maps: one class for each pixel.

Axes: B batch, K classes, H and W sides.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from detect.semantic import IGNORED


def pixel_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean cross-entropy of the pixels of each image, (B,).

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) int64; IGNORED pixels do not count.
        weights: (K,) of the classes.
    """
    losses = cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="none").sum((1, 2))
    counted = labels != IGNORED
    total = (weights[labels.where(counted, 0)] * counted).sum((1, 2))
    return losses / total.clamp(min=1e-6)


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the Dice coefficient (Milletari et al., 2016), the mean over the classes in the batch.

    The coefficient of a class is twice the sum of its probability over its pixels, divided by its number of pixels plus
    the sum of its probability over all pixels. The pixels of all images count together, so that an image which shows
    little of a class cannot outweigh the others.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) int64; IGNORED pixels do not count.
    """
    counted = labels != IGNORED
    probability = logits.softmax(1) * counted[:, None]
    own = probability.gather(1, labels.where(counted, 0)[:, None])[:, 0]
    classes = logits.shape[1]
    index = labels.where(counted, classes).flatten()
    pixels = torch.bincount(index, minlength=classes + 1)[:classes].to(own.dtype)
    hits = own.new_zeros(classes + 1).index_add(0, index, own.flatten())[:classes]
    there = pixels > 0
    dice = 2 * hits / (pixels + probability.sum((0, 2, 3))).clamp(min=1e-6)
    return ((1 - dice) * there).sum() / there.sum().clamp(min=1)
