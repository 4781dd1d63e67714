"""AlexNet (Krizhevsky et al., 2012) as drawn in the course: sides 55, 27, 13, 6, then 9216-4096-4096 and the classes.

It runs on one device and therefore lacks the paper's two groups. It also lacks local response normalization, which
later work found to help little (Simonyan and Zisserman, 2015).
"""

from __future__ import annotations

from torch import nn

from detect.models.backbones.base import Parts, initialized
from detect.models.backbones.conv_windows import padded, side_after
from detect.registry import register

SIZE = 227


@register("backbone", "alexnet")
def alexnet(in_channels: int, padding: str) -> Parts:
    """Build AlexNet: stages of stride 4, 8, 16 and 32, with 11x11, 5x5 and three 3x3 convolutions between max pools."""

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0), nn.ReLU(inplace=True)]

    features = nn.Sequential(
        nn.Sequential(*conv(in_channels, 96, 11, 4)),
        nn.Sequential(nn.MaxPool2d(3, 2), *conv(96, 256, 5)),
        nn.Sequential(nn.MaxPool2d(3, 2), *conv(256, 384, 3), *conv(384, 384, 3), *conv(384, 256, 3)),
        nn.MaxPool2d(3, 2),
    )
    padded(initialized(features), padding)
    side = min(6, side_after(SIZE, features))  # 6 in the paper; smaller without padding

    def tail(classes: int) -> nn.Sequential:
        dense = [nn.Dropout(), nn.Linear(256 * side * side, 4096), nn.ReLU(inplace=True)]
        dense += [nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, classes)]
        return initialized(nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Flatten(), *dense))

    return Parts(list(features), [96, 256, 256, 256], [4, 8, 16, 32], tail, SIZE, unpadded=True)
