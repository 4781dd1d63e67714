"""LeNet-5 (LeCun et al., 1998) as drawn in the course: sides 28, 14, 10, 5, then 400-120-84 and the classes."""

from __future__ import annotations

from torch import nn

from detect.models.backbones.base import Parts, initialized
from detect.models.backbones.conv_windows import padded, side_after
from detect.registry import register

SIZE = 32


@register("backbone", "lenet5")
def lenet5(in_channels: int, padding: str) -> Parts:
    """Build LeNet-5: two unpadded 5x5 convolutions, each followed by average pooling, and tanh as in the paper."""
    features = nn.Sequential(
        nn.Sequential(nn.Conv2d(in_channels, 6, 5), nn.Tanh()),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh()),
        nn.AvgPool2d(2),
    )
    side = side_after(SIZE, features)

    def tail(classes: int) -> nn.Sequential:
        layers = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(side), nn.Flatten()),
            *(nn.Linear(16 * side * side, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, classes)),
        )
        return initialized(layers, "linear")  # tanh is nearly linear around zero

    stages = list(padded(initialized(features, "linear"), padding))
    return Parts(stages, [6, 16, 16], [1, 2, 4], tail, SIZE, unpadded=True)
