"""Views of an image whose class probabilities are averaged (Krizhevsky et al., 2012).

Axes: B batch, C classes, S side of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MOST = 10
PART = 0.875  # side of a corner view over that of the image: 224 of 256, as Krizhevsky et al. (2012) tested


def canvas_side(side: int, count: int) -> int:
    """Side of the images that `views` takes, for a network with inputs of `side` pixels."""
    return side if count <= 2 else round(side / PART)


def views(images: Tensor, side: int, count: int) -> Iterator[Tensor]:
    """Several views (B, 3, S, S) uint8 of images, in this order: whole, mirrored, four corners, their mirror images.

    Args:
        images: (B, 3, H, W) uint8, of `canvas_side` pixels.
        side: S, side of a view.
        count: number of views, 1 to 10.
    """
    if images.ndim != 4 or (count == 1 and images.shape[-1] == side):  # signals and volumes have no other view
        yield images
        return
    resized = images
    if images.shape[-1] != side:
        small = interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
        resized = small.round().clamp(0, 255).to(torch.uint8)
    corners = [images[..., y, x] for y in (slice(side), slice(-side, None)) for x in (slice(side), slice(-side, None))]
    every = [resized, resized.flip(3), *corners, *(corner.flip(3) for corner in corners)]
    yield from islice(every, count)


def mean_over_views(model: Any, images: Tensor, side: int, count: int, precision: Any) -> Tensor:
    """The mean probabilities (B, C) of `count` views of images, on the CPU.

    Args:
        model: a classifier for inference.
        images: (B, 3, H, W) uint8, of `canvas_side` pixels.
        side: S, side of a view.
        count: number of views, 1 to 10.
        precision: autocast of the network.
    """
    scores = []
    for view in views(images, side, count):
        with copy(precision):  # an autocast keeps what it restores, which threads must not share
            output = model(view)
        scores.append(model.scores(output).cpu())
    return torch.stack(scores).mean(0)
