"""Conversion of a classifier to a fully convolutional network, which classifies all windows of an image in one pass.

A dense layer that reads a feature map of s x s cells is an s x s convolution, and one that reads a vector is a 1 x 1
convolution. The network then accepts images of any size (Sermanet et al., 2014, OverFeat, section 3.5).
"""

from __future__ import annotations

import torch
from torch import nn

from detect.models.backbones.base import Network, cells


def convolutional(network: Network, window: int) -> Network:
    """Convert `network` to a fully convolutional network over windows, in place and with the same weights.

    For an image of the window's size, the outputs are the same as before. Without padding, the outputs for every window
    equal those for its crop; with padding, a window sees beyond its borders where a crop sees zeros.

    Pooling to s x s cells becomes pooling of fixed size with stride 1, and the dense layer after it becomes a
    convolution over s x s cells with that size as its dilation.

    Args:
        network: the classifier.
        window: side of a window in pixels.

    Shape:
        images (B, channels, H, W) -> `Logits` with logits (B, outputs, rows, columns) for windows `network.stride`
        pixels apart; at least (H - window) // stride + 1 rows.

    Raises:
        ValueError: the last feature map of a window cannot be pooled evenly, or a layer has no convolutional form.
    """
    side, gap = cells(nn.Sequential(*network.stages), window), 1
    for part in (network.neck, network.head):
        for name, layer in part.named_children():
            if isinstance(layer, nn.AdaptiveAvgPool2d):
                gap, rest = divmod(side, _cells(layer))
                if rest or not gap:
                    raise ValueError(f"the last map has {side} x {side} cells, no multiple of {_cells(layer)}")
                side, layer = _cells(layer), nn.AvgPool2d(gap, 1)
            elif isinstance(layer, nn.Flatten):
                layer = nn.Identity()
            elif isinstance(layer, nn.Linear):
                layer, side, gap = _slid(layer, side, gap), 1, 1
            setattr(part, name, layer)
    if cells(nn.Sequential(*network.stages, network.neck, network.head), window) != 1:
        raise ValueError("its last layers have no convolutional form")
    return network


def _cells(pool: nn.AdaptiveAvgPool2d) -> int:
    size = pool.output_size
    return size[0] or 0 if isinstance(size, tuple) else size or 0


def _slid(dense: nn.Linear, side: int, gap: int) -> nn.Conv2d:
    """Return the dense layer as a convolution over `side` x `side` cells with dilation `gap`."""
    with torch.device("meta"):
        conv = nn.Conv2d(dense.in_features // side**2, dense.out_features, side, dilation=gap, bias=False)
    conv.weight = nn.Parameter(dense.weight.detach().view(conv.weight.shape))
    conv.bias = dense.bias
    return conv
