"""torchvision's networks that are one row of blocks: `features`, then `classifier`."""

from __future__ import annotations

import math

from torch import nn

from detect.models.backbones.base import Parts, take_channels


def by_stride(blocks: nn.Sequential) -> tuple[list[nn.Module], list[int], list[int]]:
    """The blocks in stages that each begin where the map shrinks, the channels after each stage, and the strides."""
    stages: list[list[nn.Module]] = []
    channels: list[int] = []
    strides: list[int] = []
    for block in blocks:
        convs = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        step = math.prod(conv.stride[0] for conv in convs)
        if step > 1:
            stages.append([])
            channels.append(0)
            strides.append(step * (strides[-1] if strides else 1))
        stages[-1].append(block)
        channels[-1] = convs[-1].out_channels
    return [nn.Sequential(*stage) for stage in stages], channels, strides


def features(name: str, size: int, in_channels: int, padding: str) -> Parts:
    """torchvision's network `name`, whose own padding is same. Its last 1x1 convolution belongs to the classifier."""
    from torchvision import models  # late: it takes half a second

    net = take_channels(models.get_model(name, weights=None), in_channels)
    stages, channels, strides = by_stride(net.features[:-1])

    def tail(classes: int) -> nn.Sequential:
        net.classifier[-1] = nn.Linear(net.classifier[-1].in_features, classes)
        return nn.Sequential(*net.features[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), *net.classifier)

    return Parts(stages, channels, strides, tail, size, original=net)
