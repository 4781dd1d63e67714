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


def require_width(width: float) -> None:
    """Raises ValueError for a width multiplier that no network has."""
    if not 0.05 <= width <= 8:
        raise ValueError(f"width is {width:g}: it must be from 0.05 to 8")


@register("backbone", "mobilenet_v1")
def mobilenet_v1(in_channels: int, padding: str, width: float = 1.0) -> Parts:
    """Build MobileNet v1: a 3x3 and thirteen depthwise separable convolutions; same padding, as in the paper.

    The paper's table gives stride 2 for the last depthwise convolution, but its sizes imply stride 1, which is used.
    `width` is the paper's width multiplier α: every layer has α times the channels, at least 8.
    """
    require_width(width)
    inputs, *rest = (max(round(width * channels), 8) for channels in (32, *(outputs for outputs, _ in _V1)))
    blocks: list[nn.Module] = [Conv(in_channels, inputs, 3, 2, "relu")]
    for outputs, (_, stride) in zip(rest, _V1, strict=True):
        blocks.append(separable(inputs, outputs, stride))
        inputs = outputs
    return Parts(*by_stride(initialized(nn.Sequential(*blocks))), pooled(inputs))


def mobilenet(name: str, in_channels: int, padding: str, width: float = 1.0) -> Parts:
    """Build torchvision's network `name`, of version 2 or 3.

    `width` multiplies the channels, which are rounded to multiples of 8, never down by more than a tenth.
    """
    require_width(width)
    return features(name, 224, in_channels, padding, **({"width_mult": width} if width != 1 else {}))


for _name in ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"):
    register("backbone", _name)(partial(mobilenet, _name))
