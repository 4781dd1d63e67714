"""What tasks learn of outlines: masks or oriented boxes, made of an augmented target when nothing moves any more.

Such a function takes a target with outlines and returns it with what the task learns instead of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from detect.data.outlines import Outlines
from detect.errors import UserError
from detect.types import Target


def with_masks(target: Target) -> Target:
    """Return the target with `masks` (N, 56, 56) uint8."""
    masks = outlines_of(target).grids(target.boxes.numpy().astype(np.float64))
    return replace(target, outlines=None, masks=torch.from_numpy(np.ascontiguousarray(masks)))


def with_oriented(target: Target) -> Target:
    """Return the target with `oriented` boxes (N, 5), which turn with their objects (see `oriented_of`)."""
    oriented = oriented_of(outlines_of(target).corners()).astype(np.float32)
    return replace(target, outlines=None, oriented=torch.from_numpy(oriented))


def outlines_of(target: Target) -> Outlines:
    """Return the outlines of a target. Raises UserError where a transform has lost them."""
    if target.outlines is None:
        raise UserError(
            f"image id {target.image_id} has no outlines after augmentation: a transform of augment.transforms that "
            "makes a new Target must give it the outlines, moved"
        )
    return target.outlines


def oriented_of(corners: np.ndarray) -> np.ndarray:
    """Return oriented boxes (N, 5), canonical (see `anchors.oriented`), around four corners each (N, 4, 2), in order.

    Those of a rectangle give it. After shear or perspective the direction is that between the two of the sides, each
    weighed by its length, so it changes smoothly with the corners; the box is the smallest of this direction.
    """
    sides = np.roll(corners, -1, axis=1) - corners
    along, across = (sides[:, 0] - sides[:, 2]) / 2, (sides[:, 1] - sides[:, 3]) / 2
    turn = np.where(along[:, 0] * across[:, 1] < along[:, 1] * across[:, 0], -1.0, 1.0)[:, None]  # to the right or left
    ahead = along + turn * np.stack([across[:, 1], -across[:, 0]], axis=1)  # `across`, turned back by a right angle
    angle = np.arctan2(ahead[:, 1], ahead[:, 0])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axes = np.stack([unit, np.stack([-unit[:, 1], unit[:, 0]], axis=1)], axis=2)  # (N, 2, 2), the directions as columns
    places = corners @ axes
    low, high = places.min(axis=1), places.max(axis=1)
    middle = (axes @ ((low + high) / 2)[..., None])[..., 0]
    (width, height), swapped = (high - low).T, (high - low)[:, 0] < (high - low)[:, 1]
    angle = (np.where(swapped, angle + np.pi / 2, angle) + np.pi / 2) % np.pi - np.pi / 2
    return np.column_stack([middle, np.maximum(width, height), np.minimum(width, height), angle])
