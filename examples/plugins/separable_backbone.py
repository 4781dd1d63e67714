"""A backbone of depthwise separable convolutions (Howard et al., 2017), small enough for a microcontroller.

detect train --plugin ./separable_backbone.py --data toy --model.backbone separable
"""

from torch import nn

from detect.models.backbones.base import Parts
from detect.registry import register

CHANNELS = [16, 24, 40, 80, 160]


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Halve the side of a feature map: a depthwise 3x3 convolution of stride 2, then a 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


@register("backbone", "separable")
def separable(in_channels: int, padding: str) -> Parts:
    """Five stages of stride 2 to 32; `padding` is ignored: these convolutions fit any image size."""
    stages = [block(a, b) for a, b in zip([in_channels, *CHANNELS], CHANNELS, strict=False)]

    def tail(classes: int) -> nn.Sequential:
        """The layers that make a classifier of it: `--model separable`."""
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], classes))

    return Parts(stages, CHANNELS, [2, 4, 8, 16, 32], tail)
