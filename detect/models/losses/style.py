"""The costs of style transfer (Gatys et al., 2015), with the constants of the course that the project follows.

Axes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor


def content_cost(mine: Tensor, theirs: Tensor) -> Tensor:
    """Half the squared distance of two maps of one shape: 1/2 sum (a(C) - a(G))^2."""
    return (mine - theirs).square().sum() / 2


def gram(maps: Tensor) -> Tensor:
    """(B, C, C): how much each two channels of maps (B, C, H, W) fire together, sum_ij a_ijk a_ijk'."""
    flat = maps.flatten(2)
    return flat @ flat.mT


def style_cost(mine: Tensor, wanted: Tensor) -> Tensor:
    """How far the Gram matrix of maps (B, C, H, W) is from `wanted` (B, C, C): 1 / (2 H W C) sum (G(S) - G(G))^2.

    The matrices are sums over places, so `wanted` must be of a map of the same size.
    """
    _, channels, height, width = mine.shape
    return (gram(mine) - wanted).square().sum() / (2 * height * width * channels)


def total_variation(images: Tensor) -> Tensor:
    """The squared differences of neighbours, summed over images (B, C, H, W) (Mahendran and Vedaldi, 2015, beta 2)."""
    down, right = images.diff(dim=-2), images.diff(dim=-1)
    return down.square().sum() + right.square().sum()
