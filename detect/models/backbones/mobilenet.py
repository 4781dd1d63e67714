"""MobileNet v1 (Howard et al., 2017), v2 (Sandler et al., 2018) and v3 (Howard et al., 2019).

v1 is implemented here; v2 and v3 are torchvision's.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from detect.models.backbones.base import Parts, initialized, pooled
from detect.models.backbones.blocks import Conv
from detect.models.backbones.feature_rows import by_stride, features
from detect.registry import register

_V1 = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a depthwise separable convolution: a depthwise 3x3 and a pointwise convolution.

    It needs 1 / outputs + 1 / 9 of the multiplications of a 3x3 convolution.
    """
    return nn.Sequential(Conv(inputs, inputs, 3, stride, "relu", groups=inputs), Conv(inputs, outputs, 1, act="relu"))


@register("backbone", "mobilenet_v1")
def mobilenet_v1(in_channels: int, padding: str) -> Parts:
    """Build MobileNet v1: a 3x3 and thirteen depthwise separable convolutions; same padding, as in the paper.

    The paper's table gives stride 2 for the last depthwise convolution, but its sizes imply stride 1, which is used.
    """
    blocks: list[nn.Module] = [Conv(in_channels, 32, 3, 2, "relu")]
    inputs = 32
    for outputs, stride in _V1:
        blocks.append(separable(inputs, outputs, stride))
        inputs = outputs
    return Parts(*by_stride(initialized(nn.Sequential(*blocks))), pooled(inputs))


def mobilenet(name: str, in_channels: int, padding: str) -> Parts:
    """Build torchvision's network `name`, of version 2 or 3."""
    return features(name, 224, in_channels, padding)


for _name in ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"):
    register("backbone", _name)(partial(mobilenet, _name))
