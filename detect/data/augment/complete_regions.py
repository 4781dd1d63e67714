"""The regions of federated targets, `Target.complete_in`, as images are placed, cut, joined and transformed.

Each function returns the fields of a target that change, none for targets without such regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from detect.types import Target

if TYPE_CHECKING:
    from detect.data.augment.transforms import Placement


def moved_regions(target: Target, move: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The regions moved as boxes (R, 4) are."""
    return {} if target.complete_in is None else {"complete_in": move(target.complete_in)}


def joined_regions(targets: Sequence[Target]) -> dict[str, Any]:
    """The regions of several targets on one canvas: where they overlap, a class is complete that is so in each."""
    both = [(t.complete, t.complete_in) for t in targets if t.complete is not None and t.complete_in is not None]
    if not both:
        return {}
    complete, regions = zip(*both, strict=True)
    return {"complete": torch.cat(complete), "complete_in": torch.cat(regions)}


def placed_regions(targets: Sequence[Target], moves: Sequence[Placement], size: tuple[int, int]) -> dict[str, Any]:
    """The regions of images placed on a canvas of `size` (h, w), each within its view.

    A warp bends them: each is then the whole canvas, so that a class is complete where it is so in all images.
    """
    fields = joined_regions(targets)
    if not fields:
        return {}
    found = []
    for target, move in zip(targets, moves, strict=True):
        if target.complete_in is not None:
            placed = target.complete_in * torch.tensor(move.scale * 2) + torch.tensor(move.offset * 2)
            low, high = (torch.tensor(edge * 2, dtype=torch.float32) for edge in (move.view[:2], move.view[2:]))
            canvas = torch.tensor([0.0, 0.0, *size[::-1]]).expand_as(placed)
            found.append(placed.maximum(low).minimum(high) if move.warp is None else canvas)
    return fields | {"complete_in": torch.cat(found)}


def spread_regions(target: Target) -> dict[str, Any]:
    """Every region as large as the canvas: for transforms of which nobody knows what they do to regions."""
    height, width = target.size
    return moved_regions(target, lambda regions: torch.tensor([0.0, 0.0, width, height]).expand_as(regions).clone())
