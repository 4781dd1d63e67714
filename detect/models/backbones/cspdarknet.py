"""CSPDarknet as in YOLOX (Ge et al., 2021): a Focus stem and four cross-stage partial stages of bottlenecks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from detect.models.backbones.base import Parts, pooled
from detect.models.backbones.blocks import CSP, Bottleneck, Conv, PyramidPool, Separable

# Kind of the 3x3 convolutions that downsample and refine feature maps: depthwise separable in the smallest network.
BLOCKS: dict[str, Callable[..., nn.Module]] = {"cspdarknet": Conv, "cspdarknet_light": Separable}


def cspdarknet(width: int, depth: int, block: Callable[..., nn.Module], in_channels: int, act: str = "silu") -> Parts:
    """Build a CSPDarknet with outputs of stride 2, 4, 8, 16 and 32.

    The stem folds 2x2 pixels into channels (Focus). Image sides must be multiples of 32.

    Args:
        width: channels at stride 8.
        depth: bottlenecks of the first and the last stage; the other stages have three times as many.
        block: kind of the 3x3 convolutions.
        in_channels: number of input channels.
        act: name of the activation.
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
