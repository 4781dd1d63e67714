"""A small problem for the tour's pages on training: scikit-learn's 8 x 8 digits and a small network, in seconds."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

TRAIN = 1400  # images; the other 397 are the test set


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images (1400, 64) in 0..1 and their labels, test images (397, 64) and theirs."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.data))
    images, labels = torch.tensor(found.data[order] / 16).float(), torch.tensor(found.target[order])
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:]


def network(scale: float = 0.0, layers: int = 2, width: int = 32, outputs: int = 10) -> nn.Sequential:
    """Dense layers with ReLU, initialized with seed 0.

    Args:
        scale: standard deviation of the initial weights, which are normal. Default: He's, the root of 2 / inputs.
        layers: number of dense layers.
        width: outputs of each but the last.
        outputs: outputs of the last.
    """
    torch.manual_seed(0)
    sides = [64, *[width] * (layers - 1), outputs]
    parts: list[nn.Module] = []
    for inputs, after in pairwise(sides):
        dense = nn.Linear(inputs, after)
        nn.init.normal_(dense.weight, std=scale or (2 / inputs) ** 0.5)
        nn.init.zeros_(dense.bias)
        parts += [dense, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def loss_of(model: nn.Module, images: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The cross-entropy of a batch; `weights` (10,) weigh the classes."""
    return nn.functional.cross_entropy(model(images), labels, weights)


def convolutional(model: nn.Sequential, side: int = 8) -> nn.Sequential:
    """The same network for images of any size: the first dense layer becomes a convolution of its window.

    Args:
        model: dense layers and activations; the first reads a window of `side` x `side` pixels.
        side: side of the window.

    Returns:
        A network from images (B, 1, H, W) to outputs (B, O, H - side + 1, W - side + 1): those of every window.
    """
    parts: list[nn.Module] = []
    for part in model:
        if isinstance(part, nn.Linear):
            size = 1 if parts else side
            layer = nn.Conv2d(part.in_features // size**2, part.out_features, size)
            layer.weight.data = part.weight.data.reshape(layer.weight.shape)
            layer.bias = part.bias
            parts.append(layer)
        else:
            parts.append(part)
    return nn.Sequential(*parts)
