"""Residual networks (He et al., 2016): a[l+2] = g(z[l+2] + shortcut(a[l])).

Names without a suffix are torchvision's networks: the stride of a bottleneck is in its 3x3 convolution, and where the
shape changes, the shortcut is a learned 1x1 convolution (option B of the paper). The suffixes are our variants:

    _paper       stride of a bottleneck in its first 1x1 convolution, as in the paper
    _identity    option A: shortcuts without weights; where the shape changes, the fixed W_s appends zero channels
    _projection  option C: every shortcut is a learned 1x1 convolution
    _plain       the plain network of the paper: no shortcuts
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.functional import pad

from detect.models.backbones.base import Parts, initialized, take_channels
from detect.models.backbones.conv_windows import padded, side_after
from detect.registry import register

Shortcut = Callable[[int, int, int], nn.Module | None]  # (inputs, outputs, stride) -> layers; None is the identity


def _along(x: Tensor, part: slice) -> Tensor:
    """Return the slice `part` of every spatial axis of a feature map (B, C, ...)."""
    place: Any = (..., *[part] * (x.ndim - 2))
    return x[place]


class Widen(nn.Module):
    """Fixed shortcut W_s of option A: takes every `stride`-th cell and appends `more` channels of zeros."""

    def __init__(self, more: int, stride: int):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return pad(_along(x, slice(None, None, self.stride)), (*[0, 0] * (x.ndim - 2), 0, self.more))


class Nothing(nn.Module):
    """Placeholder for a missing shortcut; returns 0."""

    def forward(self, x: Tensor) -> float:
        return 0.0


class Cropped(nn.Sequential):
    """Shortcut parallel to convolutions without padding: crops the same `margin` of cells from every side."""

    def __init__(self, margin: int, *layers: nn.Module):
        super().__init__(*layers)
        self.margin = margin

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_along(x, slice(self.margin, -self.margin)))


def identity(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Return the shortcut of option A: None (the identity) if the shape does not change, `Widen` otherwise."""
    return None if (inputs, stride) == (outputs, 1) else Widen(outputs - inputs, stride)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the shortcut of option C: the learned W_s, a 1x1 convolution with batch normalization."""
    return initialized(nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)))


def nothing(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the missing shortcut of the plain network."""
    return Nothing()


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of the residual branch of a torchvision block, in order."""
    return [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]


def crop(block: nn.Module) -> None:
    """Crop the shortcut of a block without padding to the size of its residual branch, in place."""
    margin, jump = 0, 1
    for conv in convolutions(block):
        margin, jump = margin + conv.kernel_size[0] // 2 * jump, jump * conv.stride[0]
    if not isinstance(block.downsample, Nothing):
        short = cast(nn.Module, block.downsample or nn.Identity())
        layers = list(short.children()) if isinstance(short, nn.Sequential) else [short]
        block.downsample = Cropped(margin, *layers)


def resnet(
    of: str, in_channels: int, padding: str, shortcut: Shortcut | None = None, stride_first: bool = False
) -> Parts:
    """Build a residual network with stages of stride 2, 4, 8, 16 and 32.

    Args:
        of: name of torchvision's network.
        in_channels: number of input channels.
        padding: see `padded`; "paper" and "same" are equal here.
        shortcut: function that replaces the shortcuts. Default: those of torchvision.
        stride_first: whether the stride of a block is moved to its first convolution.
    """
    from torchvision import models  # imported late: it takes half a second

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
