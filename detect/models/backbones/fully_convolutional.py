"""A network as one convolution: what it says of every window of a picture, in one pass.

A dense layer that reads a map of s x s cells is an s x s convolution, and one that reads a vector a 1 x 1 convolution;
then nothing in a network wants a picture of one size any more (Sermanet et al., 2014, OverFeat, section 3.5).
"""

from __future__ import annotations

import torch
from torch import nn

from detect.models.backbones.base import Network, cells


def convolutional(network: Network, window: int) -> Network:
    """`network`, in place and with the same weights, as a convolution that reads windows of `window` pixels.

    Of pictures (B, channels, H, W) it makes Logits with logits (B, outputs, rows, columns), windows `network.stride`
    pixels apart; there are at least (H - window) // stride + 1 rows. Of a single window it says what it said before.
    Without padding it does so of every window; with padding windows see beyond their borders where crops see zeros.

    Pooling to s x s cells becomes pooling of fixed size with stride 1, and the dense layer behind it a convolution
    over s x s cells that far apart. Raises ValueError where the last map of a window cannot be pooled evenly, or the
    network has layers that have no such form.
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
    """The dense layer as a convolution over `side` x `side` cells, `gap` apart."""
    with torch.device("meta"):
        conv = nn.Conv2d(dense.in_features // side**2, dense.out_features, side, dilation=gap, bias=False)
    conv.weight = nn.Parameter(dense.weight.detach().view(conv.weight.shape))
    conv.bias = dense.bias
    return conv
