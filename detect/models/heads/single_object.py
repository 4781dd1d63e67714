"""Heads with one result for each image: its object, or its keypoints.

Axes: B batch, C classes, K keypoints, H and W cells of a feature map. Positions are in pixels of the canvas, which a
map of H x W cells of a stride covers with H * stride by W * stride.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anchors.boxes import cxcywh_to_xyxy
from detect.models.backbones.base import initialized
from detect.models.backbones.blocks import tower
from detect.registry import register
from detect.types import NamedRows

GRID = 8  # cells of a side that dense layers read: pooling to one would lose positions


class LocalizerOutput(NamedTuple):
    """One object for each image: presence (B,) and class logits (B, C), boxes (B, 4) xyxy in pixels."""

    presence: Tensor
    boxes: Tensor
    logits: Tensor


class LandmarkOutput(NamedTuple):
    """keypoints (B, K, 2) x, y in pixels; presence logits (B, K); heat (B, K, H, W) logits, or None."""

    keypoints: Tensor
    presence: Tensor
    heat: Tensor | None = None


class Exact(nn.Linear):
    """A dense layer in the type of its weights whatever the autocast: bfloat16 is too coarse for coordinates."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def dense(channels: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Dense layers over the last feature map, pooled to GRID x GRID cells.

    As the regression network of OverFeat (Sermanet et al., 2014, section 4.2), which reads the last map whole.

    Args:
        channels: channels of the feature map.
        hidden: widths of the hidden layers.
        outputs: number of outputs, which are small at first.
    """
    widths = [channels * GRID**2, *hidden]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
    last = Exact(widths[-1], outputs)
    made = initialized(nn.Sequential(nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), *layers, last))
    nn.init.normal_(last.weight, std=0.01)
    return made


def extent(x: Tensor, stride: int) -> Tensor:
    """(width, height) in pixels that the feature map x (B, C, H, W) covers."""
    return torch.tensor([x.shape[3] * stride, x.shape[2] * stride], dtype=torch.float32, device=x.device)


class LocalizerHead(nn.Module):
    """forward(maps) -> LocalizerOutput: presence, box and class of the object, from the last feature map."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, hidden: Sequence[int]):
        super().__init__()
        self.stride = strides[-1]
        self.dense = dense(channels[-1], hidden, 5 + classes)

    def forward(self, maps: Sequence[Tensor]) -> LocalizerOutput:
        out = self.dense(maps[-1]).float()
        boxes = cxcywh_to_xyxy(out[:, 1:5].sigmoid()) * extent(maps[-1], self.stride).repeat(2)
        return LocalizerOutput(out[:, 0], boxes, out[:, 5:])

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes, and how they are laid out: see `Model.named_rows`."""
        yield self.dense[-1], NamedRows(before=5)


@register("head.landmarks", "coordinates")
class CoordinateHead(nn.Module):
    """forward(maps) -> LandmarkOutput: coordinates from dense layers over the last feature map."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], points: int, hidden: Sequence[int], depth: int = 0
    ):
        super().__init__()
        self.stride = strides[-1]
        self.dense = dense(channels[-1], hidden, 3 * points)

    def forward(self, maps: Sequence[Tensor]) -> LandmarkOutput:
        out = self.dense(maps[-1]).float().unflatten(1, (-1, 3))
        return LandmarkOutput((out[..., :2] + 0.5) * extent(maps[-1], self.stride), out[..., 2])

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to keypoints, and how they are laid out: see `Model.named_rows`."""
        yield self.dense[-1], NamedRows("keypoint_names", each=3)


@register("head.landmarks", "heatmap")
class HeatmapHead(nn.Module):
    """forward(maps) -> LandmarkOutput: a heatmap for each keypoint on the finest feature map, read by its expectation.

    The expectation (soft-argmax; Sun et al., 2018, integral regression; Nibali et al., 2018) is finer than a cell and
    can be learned from the coordinates themselves. Presence is predicted from the coarsest map.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], points: int, hidden: Sequence[int], depth: int = 1
    ):
        super().__init__()
        self.stride = strides[0]
        self.heat = tower(channels[0], points, depth, "hardswish", [0.0])
        self.presence = dense(channels[-1], hidden, points)

    def forward(self, maps: Sequence[Tensor]) -> LandmarkOutput:
        heat = self.heat(maps[0]).float()
        return LandmarkOutput(expectation(heat) * self.stride, self.presence(maps[-1]).float(), heat)

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to keypoints, and how they are laid out: see `Model.named_rows`."""
        yield from ((layer, NamedRows("keypoint_names")) for layer in (self.heat[-1], self.presence[-1]))


def expectation(heat: Tensor) -> Tensor:
    """The mean position of softmax(heat (B, K, H, W)): (B, K, 2) x, y in cells, the centre of the first at 0.5."""
    share = heat.flatten(2).softmax(-1).unflatten(2, heat.shape[2:])
    x, y = (torch.arange(n, dtype=heat.dtype, device=heat.device) + 0.5 for n in (heat.shape[3], heat.shape[2]))
    return torch.stack([share.sum(2) @ x, share.sum(3) @ y], -1)
