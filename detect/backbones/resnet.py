"""Residual networks (He et al., 2016), torchvision's: the stride of a bottleneck is in its 3x3 convolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from detect.backbones.base import Backbone

_CHANNELS = {"resnet18": (64, 128, 256, 512), "resnet34": (64, 128, 256, 512), "resnet50": (256, 512, 1024, 2048)}


def resnet(name: str, in_channels: int, levels: Sequence[int]) -> Backbone:
    """torchvision's network without its classifier, as stages of stride 2, 4, 8, 16 and 32."""
    from torchvision import models  # late: it takes half a second

    net = getattr(models, name)(weights=None)
    if in_channels != 3:
        net.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
    stages = [nn.Sequential(net.conv1, net.bn1, net.relu), nn.Sequential(net.maxpool, net.layer1)]
    stages += [net.layer2, net.layer3, net.layer4]
    return Backbone(stages, [64, *_CHANNELS[name]], [2, 4, 8, 16, 32], levels)


VARIANTS = {name: partial(resnet, name) for name in _CHANNELS}
