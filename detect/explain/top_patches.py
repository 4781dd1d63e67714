"""What excites the channels of a layer: the patches of images where each of them fires most.

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
from detect.models.hooks import Taps
from detect.models.receptive_field import Sight, Sights
from detect.types import Batch

BEST = 9
SHARE = 0.5
TILE = 72  # pixels of the side of a patch as it is shown
PAD = 114  # grey, where a field reaches beyond the image


class Patch(NamedTuple):
    """How much a channel fires, the image's id, what is shown, (left, top, right, bottom) on its canvas."""

    value: float
    image_id: int
    field: tuple[int, int, int, int]
    tile: np.ndarray


def sight_of(model: Model, layer: str, side: int) -> Sight:
    """What one cell of the layer's map sees of a canvas of `side` pixels. Raises UserError where that is unknown."""
    net = copy.deepcopy(model).to("meta")
    image = torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta")
    with torch.no_grad(), Sights(image) as sights, Taps(net, [layer]) as taps:
        net(image)
        sight = sights.get(taps.map(layer))
    if sight is None:
        raise UserError(f"layer {layer} does not depend on the image: take another")
    return sight


def strongest(
    model: Model, layer: str, sight: Sight, batches: Iterable[Batch], channels: Sequence[int]
) -> dict[int, list[Patch]]:
    """The BEST patches of each of these channels over the batches, the strongest first, at most one an image.

    Cells in the middle of whose field is no image, only what a letterbox puts around it, do not count. Of images
    that excite a channel alike the first is kept. Raises UserError for a layer that does not look at whole images.
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
    """What the layer makes of images (B, 3, H, W) uint8: (B, C, h, w) on the CPU."""
    with torch.inference_mode(), Taps(model, [layer]) as taps:
        model(images.to(model.gain.device))
        found = taps.map(layer)
    if len(found) != len(images):
        raise UserError(f"layer {layer} looks at pieces of images: take one that looks at whole images")
    return found.float().cpu()


def _inside(batch: Batch, maps: Tensor, sight: Sight) -> Tensor:
    """(B, h, w) whether the middle of a cell's field lies in the image."""
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
    """(height, width) of what is shown of fields: all, or half the longer `side` of a canvas where they are larger.

    What a cell heeds lies around the middle of its field, and is much smaller (Luo et al., 2016).
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
    """What (left, top, right, bottom) shows of an image (3, H, W); PAD beyond, but no more than that needs."""
    height, width = image.shape[1:]
    left, top, right, bottom = field
    inner = image[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)].permute(1, 2, 0).cpu().numpy()
    around = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    return cv2.copyMakeBorder(np.ascontiguousarray(inner), *around, cv2.BORDER_CONSTANT, value=(PAD,) * 3)


def tile(image: np.ndarray, side: int = TILE) -> np.ndarray:
    """A small image (side, side, 3) of (h, w, 3): pixels stay sharp where it is enlarged."""
    smaller = max(image.shape[:2]) > side
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
