"""Padding of convolutions and pools, and the size of the feature maps they produce."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)
Window = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def _pair(value: int | tuple[int, ...] | str) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def padded(network: M, padding: str) -> M:
    """Set the padding of every convolution and pool of `network`, in place.

    Args:
        network: the network; it is also returned.
        padding: "paper" leaves the padding unchanged, "valid" removes it, and "same" makes the side of each feature map
            ceil(side / stride). For "same", odd windows are padded by half of their size; even windows must be pools
            with a stride equal to their size, and may extend beyond the edge.

    Raises:
        ValueError: `padding` is unknown, or a layer has no same padding.
    """
    if padding not in ("paper", "valid", "same"):
        raise ValueError(f"padding is paper, valid or same, not {padding!r}")
    if padding == "paper":
        return network
    for layer in network.modules():
        if not isinstance(layer, Window):
            continue
        kernel = _pair(layer.kernel_size)
        even = any(k % 2 == 0 for k in kernel)
        layer.padding = (0, 0)
        if padding == "same":
            if even and (isinstance(layer, nn.Conv2d) or kernel != _pair(layer.stride)):
                raise ValueError(f"{layer} has no same padding")
            dilation = _pair(getattr(layer, "dilation", 1))
            layer.padding = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
        if not isinstance(layer, nn.Conv2d):
            layer.ceil_mode = even and padding == "same"
    return network


def side_after(side: int, *layers: nn.Module) -> int:
    """Return the side of a square feature map after the convolutions and pools in `layers`, applied in order.

    Each gives floor((side + 2 * padding - window) / stride + 1), or the ceiling if the last window may extend beyond
    the edge.
    """
    for layer in (inner for outer in layers for inner in outer.modules() if isinstance(inner, Window)):
        kernel, stride, padding = (_pair(v)[0] for v in (layer.kernel_size, layer.stride, layer.padding))
        reach = _pair(getattr(layer, "dilation", 1))[0] * (kernel - 1) + 1
        steps = (side + 2 * padding - reach) / stride
        ceil = getattr(layer, "ceil_mode", False)
        steps = math.ceil(steps) if ceil else math.floor(steps)
        if ceil and steps * stride >= side + padding:  # a window that would begin beyond the image is dropped
            steps -= 1
        side = steps + 1
    return side
