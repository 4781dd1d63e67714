"""Inception networks, with parallel convolutions of several sizes: GoogLeNet (Szegedy et al., 2015) and v3 (2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from detect.models.backbones.base import Parts, initialized, pooled, take_channels
from detect.models.backbones.blocks import Conv
from detect.models.backbones.conv_windows import padded
from detect.registry import register


class Inception(nn.Module):
    """Inception block of four parallel branches: 1x1; 1x1 and 3x3; 1x1 and 5x5; max pool and 1x1.

    Args:
        inputs: input channels.
        widths: output channels of these convolutions, in this order.

    Shape:
        (B, inputs, H, W) -> (B, channels, H, W); `channels` is the sum over the last convolution of each branch.
    """

    def __init__(self, inputs: int, widths: Sequence[int]):
        super().__init__()
        one, before3, three, before5, five, pool = widths
        self.branches = nn.ModuleList(
            [
                Conv(inputs, one, 1, act="relu"),
                nn.Sequential(Conv(inputs, before3, 1, act="relu"), Conv(before3, three, 3, act="relu")),
                nn.Sequential(Conv(inputs, before5, 1, act="relu"), Conv(before5, five, 5, act="relu")),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), Conv(inputs, pool, 1, act="relu")),
            ]
        )
        self.channels = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


# Table 1 of the paper, split where the stride changes and at the auxiliary classifiers: 3a 3b, 4a, 4b-4d, 4e, 5a 5b.
_STAGES = [
    [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    [(192, 96, 208, 16, 48, 64)],
    [(160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64)],
    [(256, 160, 320, 32, 128, 128)],
    [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
]


@register("backbone", "googlenet")
def googlenet(in_channels: int, padding: str) -> Parts:
    """Build GoogLeNet with 5x5 branches as in the paper; batch normalization replaces local response normalization."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    stages: list[nn.Module] = [
        Conv(in_channels, 64, 7, 2, "relu"),
        nn.Sequential(pool(), Conv(64, 64, 1, act="relu"), Conv(64, 192, 3, act="relu")),
    ]
    channels, strides = [64, 192], [2, 4, 8, 16, 16, 16, 32]
    for i, rows in enumerate(_STAGES, len(stages)):
        layers: list[nn.Module] = [pool()] if strides[i] > strides[i - 1] else []
        inputs = channels[-1]
        for widths in rows:
            block = Inception(inputs, widths)
            layers.append(block)
            inputs = block.channels
        stages.append(nn.Sequential(*layers))
        channels.append(inputs)
    stages = [padded(initialized(stage), padding) for stage in stages]

    def aux(inputs: int) -> Callable[[int], nn.Module]:
        def make(classes: int) -> nn.Module:
            look = padded(nn.Sequential(nn.AvgPool2d(5, 3), Conv(inputs, 128, 1, act="relu")), padding)
            dense = [nn.Linear(2048, 1024), nn.ReLU(inplace=True), nn.Dropout(0.7), nn.Linear(1024, classes)]
            return initialized(nn.Sequential(*look, nn.AdaptiveAvgPool2d(4), nn.Flatten(), *dense))

        return make

    return Parts(stages, channels, strides, pooled(1024, 0.4), aux={i: aux(channels[i]) for i in (3, 4)})


@register("backbone", "inception_v3")
def inception_v3(in_channels: int, padding: str) -> Parts:
    """Build torchvision's Inception v3; published weights take images in -1..1 (mean and standard deviation 0.5)."""
    from detect.models.backbones.inception_v3 import whole  # imported late: torchvision takes half a second

    net = padded(take_channels(whole(), in_channels), padding)
    stages = [
        nn.Sequential(net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3),
        nn.Sequential(net.maxpool1, net.Conv2d_3b_1x1, net.Conv2d_4a_3x3),
        nn.Sequential(net.maxpool2, net.Mixed_5b, net.Mixed_5c, net.Mixed_5d),
        nn.Sequential(net.Mixed_6a, net.Mixed_6b, net.Mixed_6c, net.Mixed_6d, net.Mixed_6e),
        nn.Sequential(net.Mixed_7a, net.Mixed_7b, net.Mixed_7c),
    ]

    def dense(inputs: int, classes: int, std: float) -> nn.Linear:
        layer = nn.Linear(inputs, classes)
        nn.init.trunc_normal_(layer.weight, std=std)
        return layer

    def aux(classes: int) -> nn.Module:
        net.AuxLogits.fc = dense(768, classes, 0.001)
        return net.AuxLogits

    def tail(classes: int) -> nn.Sequential:
        net.fc = dense(2048, classes, 0.1)
        return nn.Sequential(net.avgpool, nn.Flatten(), net.dropout, net.fc)

    return Parts(stages, [64, 192, 288, 768, 2048], [2, 4, 8, 16, 32], tail, 299, {3: aux}, net)
