"""torchvision networks that are a sequence of blocks: `features`, then `classifier`."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from detect.models.backbones.base import Parts, take_channels


def by_stride(blocks: nn.Sequential) -> tuple[list[nn.Module], list[int], list[int]]:
    """Group blocks into stages; a new stage begins at each block that downsamples.

    Returns:
        The stages, and the output channels and the output stride of each stage.
    """
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


def features(name: str, size: int, in_channels: int, padding: str, **options: Any) -> Parts:
    """Build torchvision's network `name`, which has same padding. Its last 1x1 convolution is part of the tail."""
    from torchvision import models  # imported late: it takes half a second

    return as_parts(models.get_model(name, weights=None, **options), size, in_channels)


def as_parts(net: Any, size: int, in_channels: int) -> Parts:
    """The parts of a torchvision network with `features`, the last of which is a 1x1 convolution, and `classifier`."""
    net = take_channels(net, in_channels)
    stages, channels, strides = by_stride(net.features[:-1])

    def tail(classes: int) -> nn.Sequential:
        net.classifier[-1] = nn.Linear(net.classifier[-1].in_features, classes)
        return nn.Sequential(*net.features[-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), *net.classifier)

    return Parts(stages, channels, strides, tail, size, original=net)
