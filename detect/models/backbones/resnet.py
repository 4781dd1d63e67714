"""Residual networks (He et al., 2016): a[l+2] = g(z[l+2] + shortcut(a[l])).

Under torchvision's names the networks are torchvision's: the stride of a bottleneck is in its 3x3 convolution, and a
learned 1x1 convolution is the shortcut where shapes change (the paper's option B). The other names are ours:

    _paper       the stride of a bottleneck in its first 1x1 convolution, where the paper has it
    _identity    option A: shortcuts without weights; where shapes change, the fixed W_s appends channels of zeros
    _projection  option C: a learned 1x1 convolution is the shortcut everywhere
    _plain       the paper's plain network: no shortcuts
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from detect.models.backbones.base import Parts, initialized, take_channels
from detect.models.backbones.conv_windows import padded, side_after
from detect.registry import register

Shortcut = Callable[[int, int, int], nn.Module | None]  # (inputs, outputs, stride) -> layers; None is the identity


def _along(x: Tensor, part: slice) -> Tensor:
    """This part of every axis of a map (B, C, ...)."""
    place: Any = (..., *[part] * (x.ndim - 2))
    return x[place]


class Widen(nn.Module):
    """The fixed W_s: every `stride`-th pixel, and `more` channels of zeros."""

    def __init__(self, more: int, stride: int):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return pad(_along(x, slice(None, None, self.stride)), (*[0, 0] * (x.ndim - 2), 0, self.more))


class Nothing(nn.Module):
    """In the place of a shortcut: nothing to add."""

    def forward(self, x: Tensor) -> float:
        return 0.0


class Cropped(nn.Sequential):
    """A shortcut beside convolutions without padding: loses the same `margin` at every side."""

    def __init__(self, margin: int, *layers: nn.Module):
        super().__init__(*layers)
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_along(x, slice(self.margin, -self.margin)))


def identity(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Option A."""
    return None if (inputs, stride) == (outputs, 1) else Widen(outputs - inputs, stride)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option C: the learned W_s."""
    return initialized(nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)))


def nothing(inputs: int, outputs: int, stride: int) -> nn.Module:
    return Nothing()


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """Those of the residual branch of torchvision's block, in order."""
    return [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]


def crop(block: nn.Module) -> None:
    """Crop the shortcut of a block that has lost its padding."""
    margin, jump = 0, 1
    for conv in convolutions(block):
        margin, jump = margin + conv.kernel_size[0] // 2 * jump, jump * conv.stride[0]
    if not isinstance(block.downsample, Nothing):
        layers = (
            block.downsample if isinstance(block.downsample, nn.Sequential) else [block.downsample or nn.Identity()]
        )
        block.downsample = Cropped(margin, *layers)


def resnet(
    of: str, in_channels: int, padding: str, shortcut: Shortcut | None = None, stride_first: bool = False
) -> Parts:
    """torchvision's network `of`, in stages of stride 2, 4, 8, 16 and 32; its padding is the paper's and is same.

    `shortcut` replaces its shortcuts; `stride_first` moves the stride of a block to its first convolution.
    """
    from torchvision import models  # late: it takes half a second

    net = padded(take_channels(models.get_model(of, weights=None), in_channels), padding)
    groups = [net.layer1, net.layer2, net.layer3, net.layer4]
    windows = [net.conv1, net.maxpool]
    for block in (block for group in groups for block in group):
        convs, stride = convolutions(block), block.stride
        if stride_first:
            for conv, step in zip(convs, (stride, 1, 1), strict=False):
                conv.stride = (step, step)
        if shortcut:
            block.downsample = shortcut(convs[0].in_channels, convs[-1].out_channels, stride)
        if padding == "valid":
            crop(block)
        windows += convs

    def tail(classes: int) -> nn.Sequential:
        net.fc = nn.Linear(net.fc.in_features, classes)
        return nn.Sequential(net.avgpool, nn.Flatten(), net.fc)

    stages = [nn.Sequential(net.conv1, net.bn1, net.relu), nn.Sequential(net.maxpool, net.layer1), *groups[1:]]
    channels = [64, *(convolutions(group[-1])[-1].out_channels for group in groups)]
    published = None if shortcut or stride_first else net
    size = 224 if padding != "valid" else next(n for n in count(1) if side_after(n, *windows) == 1)
    return Parts(stages, channels, [2, 4, 8, 16, 32], tail, size, original=published, unpadded=True)


def _variants(depths: Sequence[int], suffix: str = "", **changes: Any) -> None:
    for name in (f"resnet{depth}" for depth in depths):
        register("backbone", name + suffix)(partial(resnet, name, **changes))


_variants((18, 34, 50, 101, 152))
_variants((50, 101, 152), "_paper", stride_first=True)
_variants((18, 34), "_identity", shortcut=identity)
_variants((18, 34), "_projection", shortcut=projection)
_variants((18, 34), "_plain", shortcut=nothing)
