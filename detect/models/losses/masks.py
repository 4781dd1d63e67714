"""The loss of masks that are weighted sums of prototypes (Bolya et al., 2019), at points in and around the boxes.

Axes: B images, O objects, K prototypes, M points of an object, Q predictions of an object.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag, pad

MARGIN = 4  # cells of a target mask that are added on each side: what is beside the object
POINTS = 2**19  # of all objects of a batch together, at most, unless there are many thousand objects


def sample_points(masks: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Points of a regular grid in and around each box, and how much of the cell around each the object covers.

    The grid is coarser where there are many objects, and begins at a random cell, so that in the course of training
    every cell has its turn.

    Args:
        masks: (O, S, S) uint8, the share of each cell of the box that the object covers, times 255.
        boxes: (O, 4) in canvas pixels.

    Returns:
        Positions (O, M, 2) in canvas pixels, and shares (O, M) in 0..1.
    """
    side, total = masks.shape[-1], masks.shape[-1] + 2 * MARGIN
    step = next((s for s in (2, 4) if len(masks) * (total // s) ** 2 <= POINTS), 8)
    y, x = torch.randint(step, (2,)).tolist()
    shares = pad(masks, [MARGIN] * 4)[:, y::step, x::step].flatten(1) / 255
    rows, columns = (torch.arange(first, total, step, device=boxes.device) + 0.5 - MARGIN for first in (y, x))
    cells = torch.stack([columns.repeat(len(rows)), rows.repeat_interleave(len(columns))], 1) / side
    sizes = boxes[:, None, 2:] - boxes[:, None, :2]
    return boxes[:, None, :2] + cells * sizes, shares


def sample_maps(maps: Tensor, image: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples (O, M, K) of maps (B, K, h, w); beyond the outer cells their values go on.

    Args:
        maps: feature maps.
        image: the map (O,) that each object belongs to.
        places: (O, M, 2) x, y in cells; the centre of the first cell is at 0.5.
    """
    height, width = maps.shape[-2:]
    last = places.new_tensor([width - 1, height - 1])
    places = (places - 0.5).clamp(min=0).minimum(last)
    low = places.floor()
    part, high = places - low, (low + 1).minimum(last)
    (x0, y0), (x1, y1) = (corner.long().unbind(-1) for corner in (low, high))
    first = image[:, None] * (height * width)
    corners = torch.stack([first + y * width + x for y in (y0, y1) for x in (x0, x1)], -1)
    u, v = part.unbind(-1)
    weights = torch.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u], -1)
    cells = maps.float().permute(0, 2, 3, 1).flatten(0, 2)
    samples = embedding_bag(corners.flatten(0, 1), cells, per_sample_weights=weights.flatten(0, 1), mode="sum")
    return samples.unflatten(0, corners.shape[:2])


def mask_loss(coefficients: Tensor, samples: Tensor, shares: Tensor, inside: Tensor) -> Tensor:
    """Cross-entropy averaged over the points, plus one minus the Dice overlap: (O, Q).

    Args:
        coefficients: (O, Q, K) of the predictions.
        samples: (O, M, K), the prototypes at the points.
        shares: (O, M), the target at the points, 0..1.
        inside: (O, M), whether each point counts.
    """
    logits = coefficients.float() @ samples.mT
    target, weight = shares[:, None].expand_as(logits), inside[:, None].to(logits.dtype)
    entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
    counted = weight.sum(-1).clamp(min=1)
    predicted = logits.sigmoid() * weight
    target = target * weight
    dice = (2 * (predicted * target).sum(-1) + 1) / (predicted.sum(-1) + target.sum(-1) + 1)
    return (entropy * weight).sum(-1) / counted + 1 - dice
