"""The CSP family: cross-stage partial networks (Wang et al., 2020), the modern backbone of grid detectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from detect.models.backbones.base import Parts, pooled
from detect.models.backbones.blocks import CSP, Conv, PyramidPool
from detect.models.backbones.conv_windows import padded
from detect.registry import register


def csp(widths: Sequence[int], depths: Sequence[int], in_channels: int, padding: str, act: str = "hardswish") -> Parts:
    """`widths` are the channels at strides 4, 8, 16 and 32; `depths` the residual blocks there.

    The first convolution goes to stride 4 at once, as the patches of vision transformers do: maps of stride 2 are the
    largest of all, and no head looks at them.
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
