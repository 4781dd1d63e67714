"""Cross-stage partial (CSP) networks (Wang et al., 2020), the modern backbones of grid detectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from detect.models.backbones.base import Parts, pooled
from detect.models.backbones.blocks import CSP, Conv, PyramidPool
from detect.models.backbones.conv_windows import padded
from detect.registry import register


def csp(widths: Sequence[int], depths: Sequence[int], in_channels: int, padding: str, act: str = "hardswish") -> Parts:
    """Build a CSP network with stages of stride 4, 8, 16 and 32.

    The first convolution has stride 4, like the patch embedding of vision transformers: feature maps of stride 2 would
    be the largest of all, and no head reads them.

    Args:
        widths: channels of each stage.
        depths: residual blocks of each stage.
        in_channels: number of input channels.
        padding: see `padded`.
        act: name of the activation.
    """
    stages: list[nn.Module] = []
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        shrink = Conv(widths[i - 1], width, 3, 2, act) if i else Conv(in_channels, width, 7, 4, act)
        last = [PyramidPool(width, act)] if i == len(widths) - 1 else []
        stages.append(padded(nn.Sequential(shrink, CSP(width, width, depth, act), *last), padding))
    return Parts(stages, widths, [4, 8, 16, 32], pooled(widths[-1]))


register("backbone", "csp_n")(partial(csp, [32, 64, 128, 256], [1, 1, 1, 1]))
register("backbone", "csp_s")(partial(csp, [64, 128, 256, 512], [1, 2, 2, 1]))
register("backbone", "csp_m")(partial(csp, [96, 192, 384, 640], [2, 4, 4, 2]))
register("backbone", "csp_l")(partial(csp, [128, 256, 512, 768], [3, 6, 6, 3]))
