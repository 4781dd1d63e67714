"""The image patches with the highest activations of each channel of a layer.

Axes: B images of a batch, C channels of the layer, H rows, W columns.
"""

from __future__ import annotations

import copy
import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from detect.errors import UserError
from detect.models.base import Model
from detect.models.hooks import LayerOutputs
from detect.models.receptive_field import Sight, Sights
from detect.types import Batch

BEST = 9  # patches of each channel
SHARE = 0.5  # of the longer side of the canvas: the largest patch that is shown
TILE = 72  # side in pixels of a patch as it is shown
PAD = 114  # grey, outside of the image


class Patch(NamedTuple):
    """An activation, the id of its image, its patch (left, top, right, bottom) on the canvas, and the shown tile."""

    value: float
    image_id: int
    field: tuple[int, int, int, int]
    tile: np.ndarray


def sight_of_cell(model: Model, layer: str, side: int) -> Sight:
    """The receptive field of a cell of the layer, for a canvas of `side` pixels.

    Raises:
        UserError: the layer does not depend on the image.
    """
    net = copy.deepcopy(model).to("meta")
    image = torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta")
    with torch.no_grad(), Sights(image) as sights, LayerOutputs(net, [layer]) as taps:
        net(image)
        sight = sights.get(taps.map(layer))
    if sight is None:
        raise UserError(f"layer {layer} does not depend on the image: choose another")
    return sight


def top_patches(
    model: Model, layer: str, sight: Sight, batches: Iterable[Batch], channels: Sequence[int]
) -> dict[int, list[Patch]]:
    """The BEST patches of each channel, by descending activation, at most one of each image.

    Cells whose field has its centre in the padding of the letterbox do not count. Of images with the same activation
    the first is kept.

    Args:
        model: any that takes whole images.
        layer: the name of a layer with feature maps.
        sight: the receptive field of its cells.
        batches: letterboxed images.
        channels: the channels.

    Raises:
        UserError: the layer does not take whole images.
    """
    kept: dict[int, list[tuple[float, int, Patch]]] = defaultdict(list)
    count = 0
    for batch in batches:
        maps = layer_map(model, layer, batch.images)
        values = maps[:, list(channels)].masked_fill(~_inside(batch, maps, sight)[:, None], -float("inf"))
        most, cell = (x.tolist() for x in values.flatten(2).max(-1))
        for b, target in enumerate(batch.targets):
            count += 1
            for c, channel in enumerate(channels):
                heap, value = kept[channel], most[b][c]
                if value == -float("inf") or (len(heap) == BEST and value <= heap[0][0]):
                    continue
                patch = _patch(value, batch.images[b], target.image_id, sight, divmod(cell[b][c], maps.shape[3]))
                (heapq.heappushpop if len(heap) == BEST else heapq.heappush)(heap, (value, -count, patch))
    return {channel: [patch for *_, patch in sorted(kept[channel], reverse=True)] for channel in channels}


def layer_map(model: Model, layer: str, images: Tensor) -> Tensor:
    """The output (B, C, h, w) of a layer for images (B, 3, H, W) uint8, on the CPU."""
    with torch.inference_mode(), LayerOutputs(model, [layer]) as taps:
        model(images.to(model.gain.device))
        maps = taps.map(layer)
    if len(maps) != len(images):
        raise UserError(f"layer {layer} takes parts of images: choose one that takes whole images")
    return maps.float().cpu()


def _inside(batch: Batch, maps: Tensor, sight: Sight) -> Tensor:
    """Whether the centre of the field of each cell lies in the image: (B, h, w)."""
    inside = torch.zeros(len(maps), *maps.shape[2:], dtype=torch.bool)
    y, x = (
        start + field / 2 + step * torch.arange(n)
        for start, field, step, n in zip(sight.start, sight.field, sight.stride, maps.shape[2:], strict=True)
    )
    for one, fit in zip(inside, batch.fits, strict=True):
        rows = (y > fit.top) & (y < fit.top + fit.inner[0])
        one |= rows[:, None] & ((x > fit.left) & (x < fit.left + fit.inner[1]))[None]
    return inside


def shown(sight: Sight, side: int) -> tuple[int, int]:
    """The (height, width) of patches: the whole field, or half the longer `side` of the canvas if it is larger.

    The effective receptive field lies around the centre, and is much smaller (Luo et al., 2016).
    """
    height, width = (round(min(field, side * SHARE)) for field in sight.field)
    return height, width


def _patch(value: float, image: Tensor, image_id: int, sight: Sight, cell: tuple[int, int]) -> Patch:
    height, width = shown(sight, max(image.shape[1:]))
    middle = (a + i * j + f / 2 for a, i, j, f in zip(sight.start, cell, sight.stride, sight.field, strict=True))
    top, left = (round(m - size / 2) for m, size in zip(middle, (height, width), strict=True))
    field = (left, top, left + width, top + height)
    return Patch(value, image_id, field, tile(cut(image, field)))


def cut(image: Tensor, field: tuple[int, int, int, int]) -> np.ndarray:
    """The crop (left, top, right, bottom) of an image (3, H, W), with PAD outside of the image."""
    height, width = image.shape[1:]
    left, top, right, bottom = field
    inner = image[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)].permute(1, 2, 0).cpu().numpy()
    around = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    return cv2.copyMakeBorder(np.ascontiguousarray(inner), *around, cv2.BORDER_CONSTANT, value=(PAD,) * 3)


def tile(image: np.ndarray, side: int = TILE) -> np.ndarray:
    """The image (h, w, 3) scaled to (side, side, 3); enlarged pixels stay sharp."""
    smaller = max(image.shape[:2]) > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
