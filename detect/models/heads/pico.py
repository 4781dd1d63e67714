"""Head of PicoDet (Yu et al., 2021): one branch of 5x5 depthwise separable convolutions for classes and boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detect.models.backbones.blocks import Separable
from detect.models.heads.point import PointHead
from detect.registry import register
from detect.types import HeadOutput


@register("head", "pico")
class PicoHead(PointHead):
    """forward(maps) -> HeadOutput as of PointHead, with distances of 0 to 7 strides; arguments as of PointHead.

    `depth` counts the separable convolutions, which classes and boxes share.
    """

    bins = 8
    rare = -4.6  # a probability of 1 %, as in the paper

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        depth: int,
        anchors: Sequence[Sequence[float]] = (),
        act: str = "hardswish",
    ):
        super().__init__(channels, strides, classes, 0, anchors, act)
        towers = (nn.Sequential(*(Separable(c, c, 5, act=act) for _ in range(depth))) for c in channels)
        self.towers = nn.ModuleList(towers)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        return super().forward([tower(x) for tower, x in zip(self.towers, maps, strict=True)])
