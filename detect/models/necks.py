"""Necks: they join the feature maps of a backbone, finest first, into maps of one width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from detect.models.backbones import build_backbone
from detect.models.backbones.blocks import CSP, Bottleneck, Conv, Separable
from detect.models.configs.yolo import PyramidConfig
from detect.registry import REGISTRIES, register


@register("neck", "straight")
class Straight(nn.Module):
    """No exchange between levels: a 1x1 convolution gives each level `width` channels."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, depth: int, act: str = "hardswish"):
        super().__init__()
        self.channels, self.strides = [width] * len(channels), list(strides)
        self.lateral = nn.ModuleList(Conv(c, width, 1, act=act) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]


@register("neck", "fpn")
class FPN(nn.Module):
    """Feature pyramid (Lin et al., 2017): coarse maps are upsampled and merged into finer ones by a CSP stage."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, depth: int, act: str = "hardswish"):
        super().__init__()
        self.channels, self.strides = [width] * len(channels), list(strides)
        self.lateral = nn.ModuleList(Conv(c, width, 1, act=act) for c in channels)
        self.down = nn.ModuleList(CSP(2 * width, width, depth, act) for _ in channels[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in reversed(range(len(out) - 1)):
            coarse = interpolate(out[i + 1], size=out[i].shape[-2:], mode="nearest")
            out[i] = self.down[i](torch.cat([out[i], coarse], 1))
        return out


@register("neck", "pan")
class PAN(FPN):
    """Path aggregation (Liu et al., 2018): an FPN, then fine maps are merged into coarser ones by stride 2."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, depth: int, act: str = "hardswish"):
        super().__init__(channels, strides, width, depth, act)
        self.shrink = nn.ModuleList(Conv(width, width, 3, coarse // fine, act) for fine, coarse in pairwise(strides))
        self.up = nn.ModuleList(CSP(2 * width, width, depth, act) for _ in channels[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = super().forward(maps)
        for i, (shrink, up) in enumerate(zip(self.shrink, self.up, strict=True)):
            out[i + 1] = up(torch.cat([shrink(out[i]), out[i + 1]], 1))
        return out


@register("neck", "fpn_paper")
class PaperFPN(nn.Module):
    """Feature pyramid as published (Lin et al., 2017): coarse maps are upsampled and added to finer ones.

    There may be more strides than channels, coarser ones at the end: those maps are cells of the coarsest one, at that
    distance. `subsampled` is how many there are; they are for proposals and have no features of their own.
    """

    makes_coarser = True

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, depth: int, act: str = ""):
        super().__init__()
        self.channels, self.strides = [width] * len(strides), list(strides)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.subsampled = len(strides) - len(channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in reversed(range(len(out) - 1)):
            out[i] = out[i] + interpolate(out[i + 1], size=out[i].shape[-2:], mode="nearest")
        out = [smooth(x) for smooth, x in zip(self.smooth, out, strict=True)]
        for fine, coarse in pairwise(self.strides[len(maps) - 1 :]):
            out.append(out[-1][..., :: coarse // fine, :: coarse // fine])
        return out


@register("neck", "csp_pan")
class CSPPAN(nn.Module):
    """CSP-PAN (Yu et al., 2021): path aggregation over maps of one width, by 5x5 depthwise separable convolutions.

    There may be more `strides` than `channels`: each coarser level is the sum of a shrunk map of the backbone and the
    shrunk output of the level before.
    """

    makes_coarser = True

    def __init__(self, channels: Sequence[int], strides: Sequence[int], width: int, depth: int, act: str = "hardswish"):
        super().__init__()
        self.channels, self.strides = [width] * len(strides), list(strides)
        steps = [partial(Separable, width, width, 5, coarse // fine, act) for fine, coarse in pairwise(strides)]
        block = partial(Bottleneck, shortcut=False, block=Separable, kernel=5)
        merge = partial(CSP, 2 * width, width, depth, act, block)
        joined = len(channels) - 1
        self.lateral = nn.ModuleList(Conv(c, width, 1, act=act) for c in channels)
        self.down = nn.ModuleList(merge() for _ in range(joined))
        self.shrink = nn.ModuleList(step() for step in steps[:joined])
        self.up = nn.ModuleList(merge() for _ in range(joined))
        self.extend = nn.ModuleList(nn.ModuleList((step(), step())) for step in steps[joined:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        top = out[-1]
        for i in reversed(range(len(self.down))):
            coarse = interpolate(out[i + 1], size=out[i].shape[-2:], mode="nearest")
            out[i] = self.down[i](torch.cat([coarse, out[i]], 1))
        for i, (shrink, up) in enumerate(zip(self.shrink, self.up, strict=True)):
            out[i + 1] = up(torch.cat([shrink(out[i]), out[i + 1]], 1))
        for pair in self.extend:
            direct, shrink = pair.children()
            top = direct(top)
            out.append(top + shrink(out[-1]))
        return out


class Coarser(nn.Module):
    """A neck of `kind` over a backbone that lacks the coarsest of the `out_strides`.

    3x3 convolutions of stride 2 continue from the coarsest feature map; maps of other strides are dropped.
    """

    def __init__(
        self,
        kind: Callable[..., nn.Module],
        channels: Sequence[int],
        strides: Sequence[int],
        out_strides: Sequence[int],
        width: int,
        depth: int,
        act: str = "hardswish",
    ):
        super().__init__()
        added = [2**i for i in range(strides[-1].bit_length(), out_strides[-1].bit_length())]
        inputs = [channels[-1], *[width] * (len(added) - 1)]
        self.shrink = nn.ModuleList(Conv(c, width, 3, 2, act) for c in inputs)
        self.kept = [i for i, stride in enumerate([*strides, *added]) if stride in out_strides]
        given = [*channels, *[width] * len(added)]
        self.neck = kind([given[i] for i in self.kept], out_strides, width, depth, act)
        self.channels, self.strides = [width] * len(out_strides), list(out_strides)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = list(maps)
        for shrink in self.shrink:
            out.append(shrink(out[-1]))
        return self.neck([out[i] for i in self.kept])


def build_neck(
    name: str, channels: Sequence[int], strides: Sequence[int], out_strides: Sequence[int], width: int, depth: int
) -> nn.Module:
    """A registered neck.

    Args:
        name: its registered name.
        channels: channels of the feature maps of the backbone, finest first.
        strides: their strides.
        out_strides: strides of the feature maps that the neck gives.
        width: their channels.
        depth: residual blocks in each stage.

    Raises:
        UserError: there is no such neck.
    """
    kind = REGISTRIES["neck"][name]
    makes_coarser = getattr(kind, "makes_coarser", False) and list(strides) == list(out_strides[: len(strides)])
    if list(strides) == list(out_strides) or makes_coarser:
        neck: nn.Module = kind(channels, out_strides, width, depth)
        return neck
    return Coarser(kind, channels, strides, out_strides, width, depth)


def build_pyramid(config: PyramidConfig) -> tuple[Any, Any]:
    """The backbone and the neck that `config` names.

    Raises:
        UserError: an unknown name, or a level that the backbone lacks.
    """
    backbone = build_backbone(config.backbone, config.in_channels, config.levels)
    out_strides = sorted(2**level for level in config.levels)
    return backbone, build_neck(
        config.neck, backbone.channels, backbone.strides, out_strides, config.width, config.depth
    )
