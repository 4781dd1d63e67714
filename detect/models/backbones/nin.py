"""Network in Network (Lin et al., 2014), the authors' ImageNet version: 1x1 convolutions after each convolution."""

from __future__ import annotations

from torch import nn

from detect.models.backbones.base import Parts, initialized
from detect.models.backbones.conv_windows import padded
from detect.registry import register


def mlpconv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution and two 1x1 convolutions: a small dense network that slides over the feature map."""
    first = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0)
    layers = [first, nn.Conv2d(outputs, outputs, 1), nn.Conv2d(outputs, outputs, 1)]
    return [part for layer in layers for part in (layer, nn.ReLU(inplace=True))]


@register("backbone", "nin")
def nin(in_channels: int, padding: str) -> Parts:
    """Build Network in Network: stages of stride 4, 8, 16 and 32.

    The last 1x1 convolution computes one feature map per class, whose mean is the logit of that class.
    """
    features = nn.Sequential(
        nn.Sequential(*mlpconv(in_channels, 96, 11, 4)),
        nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), *mlpconv(96, 256, 5)),
        nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), *mlpconv(256, 384, 3)),
        nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(), *mlpconv(384, 1024, 3)[:-2]),
    )

    def tail(classes: int) -> nn.Sequential:
        return initialized(nn.Sequential(nn.Conv2d(1024, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))

    stages = list(padded(initialized(features), padding))
    return Parts(stages, [96, 256, 384, 1024], [4, 8, 16, 32], tail, unpadded=True)
