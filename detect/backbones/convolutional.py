"""A network as one convolution: what it says of every window of a picture, in one pass.

A dense layer that reads a map of s x s cells is an s x s convolution, and one that reads a vector a 1 x 1 convolution;
then nothing in a network wants a picture of one size any more (Sermanet et al., 2014, OverFeat, section 3.5).
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from detect.backbones.base import Network


def convolutional(network: Network, window: int) -> Network:
    """`network`, in place and with the same weights, as a convolution that reads windows of `window` pixels.

    Of pictures (B, channels, H, W) it makes Logits with logits (B, outputs, rows, columns), windows `network.stride`
    pixels apart; there are at least (H - window) // stride + 1 rows. Of a single window it says what it said before.
    Without padding it does so of every window; with padding windows see beyond their borders where crops see zeros.

    Pooling to s x s cells becomes pooling of fixed size with stride 1, and the dense layer behind it a convolution
    over s x s cells that far apart. Raises ValueError where the last map of a window cannot be pooled evenly, or the
    network has layers that have no such form.
    """
    side, gap = _side(nn.Sequential(*network.stages), window), 1
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
    if _side(nn.Sequential(*network.stages, network.neck, network.head), window) != 1:
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


def _side(part: nn.Module, window: int) -> int:
    """The side of the map that `part` makes of a window, 0 for none; nothing is computed, only shapes."""
    channels = next(part.parameters()).shape[1]
    tensors = {name: t.to("meta") for name, t in chain(part.named_parameters(), part.named_buffers())}
    try:
        out: Tensor = torch.func.functional_call(part, tensors, torch.empty(2, channels, window, window, device="meta"))
    except RuntimeError:  # the window is smaller than a kernel
        return 0
    return out.shape[-1] if out.ndim == 4 else 0
