"""Heads that give one answer an image: where its object is, or its points.

Axes: B batch, C classes, K points, H and W cells of a map. Places are in pixels of the canvas, of which a map of H x W
cells of a stride covers H * stride by W * stride.
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

GRID = 8  # cells a side that dense layers see: where things are must not be pooled away


class Located(NamedTuple):
    """One object an image: presence (B,) and logits (B, C) before any squashing, boxes (B, 4) xyxy in pixels."""

    presence: Tensor
    boxes: Tensor
    logits: Tensor


class Landmarks(NamedTuple):
    """keypoints (B, K, 2) x, y in pixels; presence (B, K) logits of being there; heat (B, K, H, W) logits, or none."""

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
    """The last map as GRID x GRID cells, dense layers of the `hidden` widths, and `outputs` numbers, small at first.

    As the regression network of OverFeat (Sermanet et al., 2014, section 4.2), which reads the last map whole.
    """
    widths = [channels * GRID**2, *hidden]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
    last = Exact(widths[-1], outputs)
    made = initialized(nn.Sequential(nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), *layers, last))
    nn.init.normal_(last.weight, std=0.01)
    return made


def extent(x: Tensor, stride: int) -> Tensor:
    """(width, height) in pixels of what the map x (B, C, H, W) covers."""
    return torch.tensor([x.shape[3] * stride, x.shape[2] * stride], dtype=torch.float32, device=x.device)


class LocateHead(nn.Module):
    """forward(maps) -> Located: whether there is an object, its box and its class, from the last map."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int, hidden: Sequence[int]):
        super().__init__()
        self.stride = strides[-1]
        self.dense = dense(channels[-1], hidden, 5 + classes)

    def forward(self, maps: Sequence[Tensor]) -> Located:
        out = self.dense(maps[-1]).float()
        boxes = cxcywh_to_xyxy(out[:, 1:5].sigmoid()) * extent(maps[-1], self.stride).repeat(2)
        return Located(out[:, 0], boxes, out[:, 5:])

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes, and how: see `Model.named_rows`."""
        yield self.dense[-1], NamedRows(before=5)


@register("head.landmarks", "coordinates")
class CoordinateHead(nn.Module):
    """forward(maps) -> Landmarks: coordinates by dense layers over the last map."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], points: int, hidden: Sequence[int], depth: int = 0
    ):
        super().__init__()
        self.stride = strides[-1]
        self.dense = dense(channels[-1], hidden, 3 * points)

    def forward(self, maps: Sequence[Tensor]) -> Landmarks:
        out = self.dense(maps[-1]).float().unflatten(1, (-1, 3))
        return Landmarks((out[..., :2] + 0.5) * extent(maps[-1], self.stride), out[..., 2])

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to keypoints, and how: see `Model.named_rows`."""
        yield self.dense[-1], NamedRows("keypoint_names", each=3)


@register("head.landmarks", "heatmap")
class HeatmapHead(nn.Module):
    """forward(maps) -> Landmarks: a heatmap a point on the finest map, read by its expectation.

    The expectation (soft-argmax; Sun et al., 2018, integral regression; Nibali et al., 2018) is finer than a cell and
    can be learned from the coordinates themselves. Whether a point is there is told by the coarsest map.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], points: int, hidden: Sequence[int], depth: int = 1
    ):
        super().__init__()
        self.stride = strides[0]
        self.heat = tower(channels[0], points, depth, "hardswish", [0.0])
        self.presence = dense(channels[-1], hidden, points)

    def forward(self, maps: Sequence[Tensor]) -> Landmarks:
        heat = self.heat(maps[0]).float()
        return Landmarks(expectation(heat) * self.stride, self.presence(maps[-1]).float(), heat)

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to keypoints, and how: see `Model.named_rows`."""
        yield from ((layer, NamedRows("keypoint_names")) for layer in (self.heat[-1], self.presence[-1]))


def expectation(heat: Tensor) -> Tensor:
    """The mean place of softmax(heat (B, K, H, W)): (B, K, 2) x, y in cells, the centre of the first at 0.5."""
    share = heat.flatten(2).softmax(-1).unflatten(2, heat.shape[2:])
    x, y = (torch.arange(n, dtype=heat.dtype, device=heat.device) + 0.5 for n in (heat.shape[3], heat.shape[2]))
    return torch.stack([share.sum(2) @ x, share.sum(3) @ y], -1)
