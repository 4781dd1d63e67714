"""CSPDarknet as YOLOX has it (Ge et al., 2021): a Focus stem and four cross-stage partial stages of bottlenecks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from detect.models.backbones.base import Parts, pooled
from detect.models.backbones.blocks import CSP, Bottleneck, Conv, PyramidPool, Separable

# What the 3x3 convolutions that shrink and refine maps are: those of the smallest network are depthwise.
BLOCKS: dict[str, Callable[..., nn.Module]] = {"cspdarknet": Conv, "cspdarknet_light": Separable}


def cspdarknet(width: int, depth: int, block: Callable[..., nn.Module], in_channels: int, act: str = "silu") -> Parts:
    """`width` is the channels at stride 8; `depth` the bottlenecks of the first and last stage, a third of the others'.

    The stem folds 2x2 pixels into channels (Focus); images must have sides that are multiples of 32.
    """
    widths = [width * 2**i // 4 for i in range(5)]
    stages: list[nn.Module] = [nn.Sequential(nn.PixelUnshuffle(2), Conv(4 * in_channels, widths[0], 3, act=act))]
    for i, count in enumerate([depth, 3 * depth, 3 * depth, depth], 1):
        last = i == 4
        bottleneck = partial(Bottleneck, shortcut=not last, block=block)
        pool = [PyramidPool(widths[i], act)] if last else []
        shrink = block(widths[i - 1], widths[i], 3, 2, act)
        stages.append(nn.Sequential(shrink, *pool, CSP(widths[i], widths[i], count, act, bottleneck)))
    return Parts(stages, widths, [2, 4, 8, 16, 32], pooled(widths[-1]))
