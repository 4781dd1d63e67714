"""The contracting path of U-Net (Ronneberger et al., 2015) as a backbone."""

from __future__ import annotations

from torch import nn

from detect.models.backbones.base import Parts, pooled
from detect.models.backbones.blocks import Conv
from detect.models.backbones.conv_windows import padded
from detect.registry import register

LEVELS = 5


@register("backbone", "unet_encoder")
def unet_encoder(in_channels: int, padding: str, width: int = 64) -> Parts:
    """Build the contracting path of U-Net: stages of stride 1, 2, 4, 8 and 16.

    A stage is two 3x3 convolutions with ReLU; all but the first halve the map before by 2x2 max pooling and double the
    channels. The paper has neither padding nor batch normalization.

    Args:
        in_channels: number of input channels.
        padding: see `padded`.
        width: channels of the first stage.
    """
    widths = [width * 2**i for i in range(LEVELS)]
    stages: list[nn.Module] = []
    for inputs, outputs in zip([in_channels, *widths], widths, strict=False):
        shrink = [nn.MaxPool2d(2, ceil_mode=True)] if stages else []
        convolutions = Conv(inputs, outputs, 3, act="relu"), Conv(outputs, outputs, 3, act="relu")
        stages.append(padded(nn.Sequential(*shrink, *convolutions), padding))
    return Parts(stages, widths, [2**i for i in range(LEVELS)], pooled(widths[-1]))
