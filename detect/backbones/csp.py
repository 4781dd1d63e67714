"""The CSP family: cross-stage partial networks (Wang et al., 2020), the modern backbone of grid detectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from detect.backbones.base import Parts, pooled
from detect.backbones.blocks import CSP, Conv, PyramidPool
from detect.backbones.windows import padded


def csp(widths: Sequence[int], depths: Sequence[int], in_channels: int, padding: str, act: str = "silu") -> Parts:
    """`widths` are the channels at strides 2, 4, 8, 16 and 32; `depths` the residual blocks of the last four."""
    stages: list[nn.Module] = [Conv(in_channels, widths[0], 3, 2, act)]
    for i, depth in enumerate(depths):
        parts: list[nn.Module] = [
            Conv(widths[i], widths[i + 1], 3, 2, act),
            CSP(widths[i + 1], widths[i + 1], depth, act),
        ]
        if i == len(depths) - 1:
            parts.append(PyramidPool(widths[i + 1], act))
        stages.append(nn.Sequential(*parts))
    stages = [padded(stage, padding) for stage in stages]
    return Parts(stages, widths, [2, 4, 8, 16, 32], pooled(widths[-1]))


VARIANTS = {
    "csp_n": partial(csp, [16, 32, 64, 128, 256], [1, 1, 1, 1]),
    "csp_s": partial(csp, [32, 64, 128, 256, 512], [1, 2, 2, 1]),
    "csp_m": partial(csp, [48, 96, 192, 384, 640], [2, 4, 4, 2]),
    "csp_l": partial(csp, [64, 128, 256, 512, 768], [3, 6, 6, 3]),
}
