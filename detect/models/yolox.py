"""YOLOX (Ge et al., 2021): the graph of the paper's released models, over our blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anchors.assign import MaxIoU
from detect.errors import UserError
from detect.models.backbones.base import Backbone
from detect.models.backbones.blocks import CSP, Bottleneck, Conv
from detect.models.backbones.cspdarknet import BLOCKS, cspdarknet
from detect.models.base import ModelMetadata
from detect.models.configs.yolox import YoloxConfig
from detect.models.heads.decoupled import DecoupledHead
from detect.models.yolo import Yolo
from detect.registry import REGISTRIES


class Pyramid(nn.Module):
    """Path aggregation whose feature maps have the channels of the backbone: halved top-down, doubled bottom-up."""

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        depth: int,
        block: Callable[..., nn.Module],
        act: str = "silu",
    ):
        super().__init__()
        self.channels, self.strides = list(channels), list(strides)
        plain = partial(Bottleneck, shortcut=False, block=block)
        fine, coarse = channels[:-1], channels[1:]
        self.lateral = nn.ModuleList(Conv(b, a, 1, act=act) for a, b in zip(fine, coarse, strict=True))
        self.down = nn.ModuleList(CSP(2 * a, a, depth, act, plain) for a in fine)
        self.shrink = nn.ModuleList(block(a, a, 3, 2, act) for a in fine)
        self.up = nn.ModuleList(CSP(2 * a, b, depth, act, plain) for a, b in zip(fine, coarse, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x, kept = maps[-1], []
        for i in reversed(range(len(self.down))):
            x = self.lateral[i](x)
            kept.append(x)
            x = self.down[i](torch.cat([interpolate(x, scale_factor=2.0, mode="nearest"), maps[i]], 1))
        out = [x]
        for shrink, up, side in zip(self.shrink, self.up, reversed(kept), strict=True):
            out.append(up(torch.cat([shrink(out[-1]), side], 1)))
        return out


def build_yolox(config: YoloxConfig, metadata: ModelMetadata) -> Yolo:
    """YOLOX with `config.width` channels at stride 8 and `config.depth` bottlenecks.

    Raises:
        UserError: the assigner needs anchor boxes.
    """
    assigner = REGISTRIES["assigner"][config.assigner]()
    if isinstance(assigner, MaxIoU):
        raise UserError(f"assigner {config.assigner} compares anchor boxes, and YOLOX has none")
    block = BLOCKS[config.backbone]
    backbone = Backbone(cspdarknet(config.width, config.depth, block, config.in_channels), [3, 4, 5])
    neck = Pyramid(backbone.channels, backbone.strides, config.depth, block)
    head = DecoupledHead(neck.channels, neck.strides, len(metadata.names), config.width, block=block)
    return Yolo(config, metadata, backbone, neck, head, assigner)
