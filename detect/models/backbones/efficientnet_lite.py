"""EfficientNet-Lite0 (Liu, 2020): B0 without squeeze-excitation and with ReLU6, for small devices.

Published weights have the names of the PyTorch port of the TensorFlow model and require TensorFlow's padding.
"""

from __future__ import annotations

from itertools import chain

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.modules.conv import _ConvNd

from detect.models.backbones.base import Parts, initialized
from detect.models.backbones.feature_rows import by_stride
from detect.registry import register

_PLAN = (  # expansion, kernel, stride, channels, blocks
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)

_NAMES = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
_DROP = 0.2  # stochastic depth of the last block; lower for earlier blocks


class _SamePadding(_ConvNd):
    """Convolution with TensorFlow's same padding: odd padding is one cell longer at the end of an axis."""

    def forward(self, input: Tensor) -> Tensor:
        sides = zip(input.shape[2:], self.kernel_size, self.stride, strict=True)
        missing = [max((-(-side // s) - 1) * s + k - side, 0) for side, k, s in sides]
        return super().forward(pad(input, [part for n in reversed(missing) for part in (n // 2, n - n // 2)]))


class Same1d(_SamePadding, nn.Conv1d):
    """1-D convolution with TensorFlow's same padding."""


class Same3d(_SamePadding, nn.Conv3d):
    """3-D convolution with TensorFlow's same padding."""


class Same(_SamePadding, nn.Conv2d):
    """2-D convolution with TensorFlow's same padding."""


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution with same padding, and batch normalization with TensorFlow's constants."""
    kind, padding = (Same, 0) if stride > 1 else (nn.Conv2d, kernel // 2)
    layer = kind(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)]


class Inverted(nn.Module):
    """Inverted bottleneck (Sandler et al., 2018): 1x1 expansion, depthwise convolution and linear 1x1 projection.

    If the shape does not change, the input is added. In training, the branch is then dropped for each image with
    probability `drop` (stochastic depth).
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int, drop: float):
        super().__init__()
        from torchvision.ops import StochasticDepth  # imported late: it takes half a second

        inner = inputs * expansion
        layers = [*conv(inputs, inner), nn.ReLU6(inplace=True)] if expansion > 1 else []
        layers += [*conv(inner, inner, kernel, stride, inner), nn.ReLU6(inplace=True), *conv(inner, outputs)]
        self.body = nn.Sequential(*layers)
        self.drop = StochasticDepth(drop, "row") if (inputs, stride) == (outputs, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        z = self.body(x)
        return z if self.drop is None else x + self.drop(z)


@register("backbone", "efficientnet_lite0")
def efficientnet_lite0(in_channels: int, padding: str) -> Parts:
    """Build EfficientNet-Lite0: stages of stride 2, 4, 8, 16 and 32; same padding, as published."""
    stem = nn.Sequential(*conv(in_channels, 32, 3, 2), nn.ReLU6(inplace=True))
    blocks: list[Inverted] = []
    inputs, total = 32, sum(depth for *_, depth in _PLAN)
    for expansion, kernel, stride, outputs, depth in _PLAN:
        for i in range(depth):
            drop = _DROP * len(blocks) / total
            blocks.append(Inverted(inputs, outputs, expansion, kernel, 1 if i else stride, drop))
            inputs = outputs
    last = nn.Sequential(*conv(inputs, 1280), nn.ReLU6(inplace=True))
    initialized(nn.Sequential(stem, *blocks, last))
    named = published(stem, blocks, last)

    def tail(classes: int) -> nn.Sequential:
        dense = nn.Linear(1280, classes)
        named.add_module("_fc", dense)
        return nn.Sequential(*last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), dense)

    return Parts(*by_stride(nn.Sequential(stem, *blocks)), tail, original=named)


def published(stem: nn.Sequential, blocks: list[Inverted], last: nn.Sequential) -> nn.Module:
    """Return a module with the same layers under their published names."""
    net = nn.Module()
    names = ("_conv_stem", "_bn0", "_conv_head", "_bn1")
    for name, layer in zip(names, chain(stem[:2], last[:2]), strict=True):
        net.add_module(name, layer)
    net._blocks = stages = nn.ModuleList()
    for block in blocks:
        layers = [layer for layer in block.body if not isinstance(layer, nn.ReLU6)]
        one = nn.Module()
        for name, layer in zip(_NAMES[-len(layers) :], layers, strict=True):
            one.add_module(name, layer)
        stages.append(one)
    return net
