"""SqueezeNet 1.1 (Iandola et al., 2016) from torchvision: fire modules, a 1x1 before parallel 1x1 and 3x3."""

from __future__ import annotations

from torch import nn

from detect.models.backbones.base import Parts, take_channels
from detect.models.backbones.conv_windows import padded
from detect.registry import register


@register("backbone", "squeezenet1_1")
def squeezenet1_1(in_channels: int, padding: str) -> Parts:
    """Build SqueezeNet 1.1: stages of stride 2, 4, 8 and 16.

    A final 1x1 convolution computes one feature map per class, whose mean is the logit of that class.
    """
    from torchvision import models  # imported late: it takes half a second

    net = padded(take_channels(models.squeezenet1_1(weights=None), in_channels), padding)
    stages = [net.features[a:b] for a, b in ((0, 2), (2, 5), (5, 8), (8, 13))]

    def tail(classes: int) -> nn.Sequential:
        net.classifier[1] = nn.Conv2d(512, classes, 1)
        nn.init.normal_(net.classifier[1].weight, std=0.01)
        nn.init.zeros_(net.classifier[1].bias)
        return nn.Sequential(*net.classifier, nn.Flatten())

    return Parts(stages, [64, 128, 256, 512], [2, 4, 8, 16], tail, original=net)
