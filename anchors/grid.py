"""Priors: the centres, and with anchors the anchor boxes, of a pyramid of feature maps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Priors(NamedTuple):
    """The prior of each of A predictions: its centre (A, 2) x, y and stride (A,) in pixels, its box (A, 4) xyxy."""

    centers: Tensor
    strides: Tensor
    boxes: Tensor | None = None

    def encode_distances(self, boxes: Tensor, limit: float = math.inf) -> Tensor:
        """Encode boxes as distances from the centre, in strides (FCOS, Tian et al., 2019).

        Args:
            boxes: boxes (..., A, 4) xyxy.
            limit: largest distance; others are clipped.

        Returns:
            (..., A, 4) to the left, top, right and bottom side, in 0..limit.
        """
        low, high = boxes.chunk(2, -1)
        return (torch.cat((self.centers - low, high - self.centers), -1) / self.strides[..., None]).clamp(0, limit)

    def decode_distances(self, distances: Tensor) -> Tensor:
        """The boxes (..., A, 4) xyxy whose sides lie at these distances (..., A, 4): undoes `encode_distances`."""
        low, high = (distances * self.strides[..., None]).chunk(2, -1)
        return torch.cat((self.centers - low, self.centers + high), -1)


def priors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Sequence[Tensor] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Priors:
    """The priors of feature maps, in the order level, row, column, anchor.

    Args:
        shapes: height and width of each map.
        strides: stride of each map. Centres are those of the cells: (column + 0.5, row + 0.5) * stride.
        sizes: anchors of each level, (n, 2) width and height in pixels. None: no anchor boxes.
        device: of the result.
        dtype: of the result.

    Raises:
        ValueError: the arguments have different numbers of levels.
    """
    if len(shapes) != len(strides) or (sizes is not None and len(sizes) != len(strides)):
        raise ValueError(f"{len(shapes)} shapes, {len(strides)} strides and sizes must name the same levels")
    centers = []
    for shape, stride in zip(shapes, strides, strict=True):
        y, x = [(torch.arange(n, device=device, dtype=dtype) + 0.5) * stride for n in shape]
        centers.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2))
    boxes = None
    if sizes is not None:
        halves = [s.to(device, dtype) / 2 for s in sizes]
        boxes = torch.cat([_boxes(c, h) for c, h in zip(centers, halves, strict=True)])
        centers = [c.repeat_interleave(len(h), 0) for c, h in zip(centers, halves, strict=True)]
    steps = [c.new_full(c.shape[:1], stride) for c, stride in zip(centers, strides, strict=True)]
    return Priors(torch.cat(centers), torch.cat(steps), boxes)


def _boxes(centers: Tensor, halves: Tensor) -> Tensor:
    return torch.cat((centers[:, None] - halves, centers[:, None] + halves), -1).reshape(-1, 4)
