"""ESNet, the enhanced ShuffleNet of PicoDet (Yu et al., 2021), in the three widths of its detectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from detect.models.backbones.base import Parts, pooled
from detect.models.backbones.blocks import Conv, Separable
from detect.registry import register

# Share of a block's channels that its middle has, for stages of 3, 7 and 3 blocks: what architecture search found.
_SMALL = [0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
_LARGE = [0.875, 0.5, 1.0, 0.625, 0.5, 0.75, 0.625, 0.625, 0.5, 0.625, 1.0, 0.625, 0.75]
_STEM = 24  # channels of the stem in every width


class Excitation(nn.Module):
    """Squeeze and excitation (Hu et al., 2018): scale each channel by a gate that the mean of all channels opens."""

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class ESBlock(nn.Module):
    """Block of stride 1: half of the channels pass through it, then the channels of both halves are interleaved.

    Args:
        channels: input and output channels.
        middle: channels after the depthwise convolution, half of them its input (the ghost block's cheap features).
    """

    def __init__(self, channels: int, middle: int, act: str):
        super().__init__()
        self.expand = Conv(channels // 2, middle // 2, 1, act=act)
        self.depthwise = Conv(middle // 2, middle // 2, 3, act="identity", groups=middle // 2)
        self.excite = Excitation(middle)
        self.project = Conv(middle, channels // 2, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        around, through = x.chunk(2, 1)
        through = self.expand(through)
        through = self.project(self.excite(torch.cat([through, self.depthwise(through)], 1)))
        return torch.stack([around, through], 2).flatten(1, 2)


class ESDownBlock(nn.Module):
    """Block of stride 2: two branches over all channels, joined by a depthwise separable convolution.

    Args:
        inputs: input channels.
        middle: twice the channels in the middle of the second branch.
        outputs: output channels.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, act: str):
        super().__init__()
        depthwise = partial(Conv, kernel=3, stride=2, act="identity")
        self.around = nn.Sequential(depthwise(inputs, inputs, groups=inputs), Conv(inputs, outputs // 2, 1, act=act))
        half = middle // 2
        self.through = nn.Sequential(
            Conv(inputs, half, 1, act=act),
            depthwise(half, half, groups=half),
            Excitation(half),
            Conv(half, outputs // 2, 1, act=act),
        )
        self.merge = Separable(outputs, outputs, 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(torch.cat([self.around(x), self.through(x)], 1))


def esnet(scale: float, ratios: Sequence[float], in_channels: int, padding: str, act: str = "hardswish") -> Parts:
    """Build an ESNet with outputs of stride 4, 8, 16 and 32.

    Args:
        scale: width; at 1 the stages have 128, 256 and 512 channels.
        ratios: share of the channels of each of the 13 blocks that its middle has.
        in_channels: number of input channels.
        padding: not used: the convolutions pad, as in the paper.
        act: name of the activation.
    """
    widths = [_STEM, *(int(width * scale) for width in (128, 256, 512))]
    stages: list[nn.Module] = [nn.Sequential(Conv(in_channels, _STEM, 3, 2, act), nn.MaxPool2d(3, 2, 1))]
    left = iter(ratios)
    for inputs, outputs, count in zip(widths, widths[1:], (3, 7, 3), strict=False):
        first, *others = (8 * int(outputs * next(left) / 8 + 0.5) for _ in range(count))
        blocks = [ESBlock(outputs, middle, act) for middle in others]
        stages.append(nn.Sequential(ESDownBlock(inputs, first, outputs, act), *blocks))
    return Parts(stages, widths, [4, 8, 16, 32], pooled(widths[-1]))


register("backbone", "esnet_s")(partial(esnet, 0.75, _SMALL))
register("backbone", "esnet_m")(partial(esnet, 1.0, _LARGE))
register("backbone", "esnet_l")(partial(esnet, 1.25, _LARGE))
