"""The CSP family: cross-stage partial networks (Wang et al., 2020), the modern backbone of grid detectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from detect.backbones.base import Backbone
from detect.backbones.blocks import CSP, Conv, PyramidPool


def csp(
    widths: Sequence[int], depths: Sequence[int], in_channels: int, levels: Sequence[int], act: str = "silu"
) -> Backbone:
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
    return Backbone(stages, widths, [2, 4, 8, 16, 32], levels)


def csp_n(in_channels: int, levels: Sequence[int]) -> Backbone:
    return csp([16, 32, 64, 128, 256], [1, 1, 1, 1], in_channels, levels)


def csp_s(in_channels: int, levels: Sequence[int]) -> Backbone:
    return csp([32, 64, 128, 256, 512], [1, 2, 2, 1], in_channels, levels)


def csp_m(in_channels: int, levels: Sequence[int]) -> Backbone:
    return csp([48, 96, 192, 384, 640], [2, 4, 4, 2], in_channels, levels)


def csp_l(in_channels: int, levels: Sequence[int]) -> Backbone:
    return csp([64, 128, 256, 512, 768], [3, 6, 6, 3], in_channels, levels)


VARIANTS = {"csp_n": csp_n, "csp_s": csp_s, "csp_m": csp_m, "csp_l": csp_l}
