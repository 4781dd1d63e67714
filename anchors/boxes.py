"""Formats, areas and overlaps of boxes.

Boxes are (..., 2d), minima then maxima, d = 2 unless said. An inverted box (a maximum below its minimum) is empty.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import mul

import torch
from torch import Tensor

KINDS = ("iou", "giou", "diou", "ciou")


def xyxy_to_xywh(b: Tensor) -> Tensor:
    """Minima and maxima (..., 2d) to minima and extents. Raises ValueError, as all here, for an odd width."""
    low, high = _halves(b)
    return torch.cat((low, high - low), -1)


def xywh_to_xyxy(b: Tensor) -> Tensor:
    """Minima and extents (..., 2d) to minima and maxima."""
    low, extent = _halves(b)
    return torch.cat((low, low + extent), -1)


def xyxy_to_cxcywh(b: Tensor) -> Tensor:
    """Minima and maxima (..., 2d) to centres and extents."""
    low, high = _halves(b)
    return torch.cat(((low + high) / 2, high - low), -1)


def cxcywh_to_xyxy(b: Tensor) -> Tensor:
    """Centres and extents (..., 2d) to minima and maxima."""
    center, extent = _halves(b)
    return torch.cat((center - extent / 2, center + extent / 2), -1)


def area(b: Tensor) -> Tensor:
    """Area (length for d = 1, volume for d = 3) of boxes (..., 2d): (...), zero for an empty box."""
    low, high = _halves(b)
    return reduce(mul, (high - low).clamp_min(0).unbind(-1))


def clip(b: Tensor, size: Sequence[float]) -> Tensor:
    """Clip boxes to an image.

    Args:
        b: boxes (..., 2d).
        size: (height, width), outermost axis first as in a tensor's shape.

    Raises:
        ValueError: `size` does not have d axes.
    """
    if b.shape[-1] != 2 * len(size):
        raise ValueError(f"boxes {tuple(b.shape)} have {b.shape[-1] / 2:g} axes, the size has {len(size)}")
    limit = b.new_tensor([*reversed(size)] * 2)
    return b.clamp_min(0).minimum(limit)


def iou(a: Tensor, b: Tensor, kind: str = "iou") -> Tensor:
    """Compute the overlap of every box of `a` with every box of `b`.

    Args:
        a: boxes (..., N, 2d).
        b: boxes (..., M, 2d).
        kind: "iou", "giou", "diou" or "ciou": see `iou_aligned`.

    Returns:
        (..., N, M).
    """
    low_a, high_a, low_b, high_b = _corners(a, b, kind)
    return _overlap(kind, low_a[..., None], high_a[..., None], low_b[..., None, :], high_b[..., None, :])


def iou_aligned(a: Tensor, b: Tensor, kind: str = "iou") -> Tensor:
    """Compute the overlap of boxes one by one.

    Values and gradients are finite for empty boxes too: 0 / 0 is 0.

    Args:
        a: boxes (..., 2d).
        b: boxes (..., 2d); both broadcast.
        kind: "iou" is in 0..1; "giou" (Rezatofighi et al. 2019) subtracts the empty share of the hull; "diou" and
            "ciou" (Zheng et al. 2020) subtract the centre distance, "ciou" also the difference of aspect, whose weight
            is held constant in the gradient as the paper does.

    Returns:
        (...), in float32 or wider.

    Raises:
        ValueError: the kind is unknown, the boxes have different or odd widths, or "ciou" is asked of other than d = 2:
            the paper defines no aspect there.
    """
    return _overlap(kind, *_corners(a, b, kind))


def _corners(a: Tensor, b: Tensor, kind: str) -> list[Tensor]:
    """Minima and maxima of a, then of b, each (d, ...) and of one rank. Half precision would overflow: it widens.

    With a contiguous row a coordinate the arithmetic vectorizes.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of IoU {kind!r}: use one of {', '.join(KINDS)}")
    width = a.shape[-1]
    if width != b.shape[-1] or width % 2 or not width:
        raise ValueError(f"boxes {tuple(a.shape)} and {tuple(b.shape)} must be (..., 2d) with one d")
    if kind == "ciou" and width != 4:
        raise ValueError(f"ciou compares aspects, which boxes of {width // 2} axes have not: use diou")
    corners: list[Tensor] = []
    for boxes, other in ((a, b), (b, a)):
        if boxes.dtype not in (torch.float32, torch.float64):
            boxes = boxes.float()
        boxes = boxes[(None,) * (other.ndim - boxes.ndim)]
        corners += boxes.movedim(-1, 0).contiguous().chunk(2)
    return corners


def _overlap(kind: str, low_a: Tensor, high_a: Tensor, low_b: Tensor, high_b: Tensor) -> Tensor:
    """Overlap by the minima and maxima of boxes a and b. Divisors of zero become one: a small epsilon in their place
    would make enormous gradients.
    """
    sides_a, sides_b = (high_a - low_a).clamp_min(0), (high_b - low_b).clamp_min(0)
    inter: Tensor = reduce(mul, (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp_min(0))
    union: Tensor = reduce(mul, sides_a) + reduce(mul, sides_b) - inter
    value = inter / union.masked_fill(union == 0, 1)
    if kind == "iou":
        return value
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).clamp_min(0)
    if kind == "giou":
        whole: Tensor = reduce(mul, hull)
        return value - (whole - union) / whole.masked_fill(whole == 0, 1)
    between = (low_a + high_a) - (low_b + high_b)  # twice the way from centre to centre
    diagonal = hull.square().sum(0)
    distance = between.square().sum(0) / 4 / diagonal.masked_fill(diagonal == 0, 1)
    if kind == "diou":
        return value - distance
    (wa, ha), (wb, hb) = sides_a, sides_b
    # atan p - atan q = atan2(p - q, 1 + p q), with the ratios multiplied out
    product = wa * wb + ha * hb
    angle = torch.atan((wa * hb - wb * ha) / product.masked_fill(product == 0, 1))
    aspect = (4 / math.pi**2) * angle.square()
    with torch.no_grad():
        rest = 1 - value + aspect
        weight = aspect / rest.masked_fill(rest == 0, 1)
    return value - distance - weight * aspect


def _halves(b: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 2d) as two times (..., d)."""
    width = b.shape[-1] if b.ndim else 0
    if width % 2 or not width:
        raise ValueError(f"boxes {tuple(b.shape)} must be (..., 2d): as many maxima as minima")
    return b[..., : width // 2], b[..., width // 2 :]
