"""Masks in the cells of boxes, as Mask R-CNN learns and predicts them.

Axes: N detections, R regions, S side of a mask in cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from detect.masks import Index, Masks, RleMasks, Window
from detect.utils.bilinear import bilinear_weights

if TYPE_CHECKING:
    from detect.data.letterbox import Letterbox

INSIDE = 0.5  # probability from which a pixel, and share from which a cell, belongs to the object


@dataclass(frozen=True, eq=False)
class BoxMasks(Masks):
    """Masks as probabilities in the cells of boxes on the canvas: values (N, S, S), boxes (N, 4) xyxy in pixels."""

    values: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Index) -> BoxMasks:
        rows: Any = index if isinstance(index, Tensor | slice) else torch.as_tensor(index)
        return BoxMasks(self.values[rows], self.boxes[rows])

    def in_source(self, fit: Letterbox, boxes: Tensor) -> RleMasks:
        """The masks in pixels of the source image: probabilities of at least INSIDE, interpolated between cells.

        Args:
            fit: how the image lies on the canvas of the masks.
            boxes: the detected boxes (N, 4) xyxy in pixels of the source image, inside it.
        """
        places = fit.undo(self.boxes.cpu().float())
        return RleMasks.of_windows(fit.source, self._windows(places, boxes))

    def _windows(self, places: Tensor, boxes: Tensor) -> Iterator[Window]:
        """The pixels of each mask within its box; outside of its outermost cells a probability fades to 0."""
        for values, place, box in zip(self.values.cpu().float(), places, boxes.tolist(), strict=True):
            left, top, right, bottom = (int(np.floor(box[0])), int(np.floor(box[1])), *map(int, np.ceil(box[2:])))
            x, y = (torch.arange(a, b) + 0.5 for a, b in ((left, right), (top, bottom)))
            columns, rows = (_weights(at, place[i], place[i + 2], len(values)) for i, at in enumerate((x, y)))
            yield left, top, (rows @ values @ columns.T >= INSIDE).numpy()


def region_masks(masks: Tensor, boxes: Tensor, regions: Tensor, side: int) -> Tensor:
    """The part of each object's mask that lies in a region, (R, side, side) bool.

    Args:
        masks: (R, S, S) uint8, the share (0 to 255) of the cells of the object's box; outside of it there is nothing.
        boxes: (R, 4) xyxy, the boxes of the objects.
        regions: (R, 4) xyxy.
        side: cells of a region in each direction; the middles of cells are looked up, between those of the mask.
    """
    steps = (torch.arange(side, device=regions.device) + 0.5) / side
    at = regions[:, None, :2] + steps[:, None] * (regions[:, None, 2:] - regions[:, None, :2])  # (R, side, 2)
    x, y = (_weights(at[..., i], boxes[:, i : i + 1], boxes[:, i + 2 : i + 3], masks.shape[-1]) for i in range(2))
    return y @ (masks.float() / 255) @ x.mT >= INSIDE


def _weights(at: Tensor, start: Tensor, end: Tensor, cells: int) -> Tensor:
    """The weights (..., P, cells) of the cells between `start` and `end` at places (..., P)."""
    return bilinear_weights((at - start) / (end - start).clamp(min=1e-6) * cells - 0.5, cells)
