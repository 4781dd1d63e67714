"""Formats, areas and overlaps of boxes.

Boxes are (..., 2d), minima then maxima, d = 2 unless said. An inverted box (a maximum below its minimum) is empty.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add, mul

import torch
from torch import Tensor

KINDS = ("iou", "giou", "diou", "ciou")


def xyxy_to_xywh(b: Tensor) -> Tensor:
    """Minima and maxima (..., 2d) to minima and extents."""
    low, high = b.chunk(2, -1)
    return torch.cat((low, high - low), -1)


def xywh_to_xyxy(b: Tensor) -> Tensor:
    """Minima and extents (..., 2d) to minima and maxima."""
    low, extent = b.chunk(2, -1)
    return torch.cat((low, low + extent), -1)


def xyxy_to_cxcywh(b: Tensor) -> Tensor:
    """Minima and maxima (..., 2d) to centres and extents."""
    low, high = b.chunk(2, -1)
    return torch.cat(((low + high) / 2, high - low), -1)


def cxcywh_to_xyxy(b: Tensor) -> Tensor:
    """Centres and extents (..., 2d) to minima and maxima."""
    center, extent = b.chunk(2, -1)
    return torch.cat((center - extent / 2, center + extent / 2), -1)


def area(b: Tensor) -> Tensor:
    """Area (volume for d = 3) of boxes (..., 2d): (...), zero for an empty box."""
    low, high = b.chunk(2, -1)
    return _product((high - low).clamp_min(0).unbind(-1))


def clip(b: Tensor, size: Sequence[float]) -> Tensor:
    """Boxes (..., 2d) cut to 0..size; size is (height, width), outermost axis first as in a tensor's shape."""
    limit = b.new_tensor([*reversed(size)] * 2)
    return b.clamp_min(0).minimum(limit)


def iou(a: Tensor, b: Tensor, kind: str = "iou") -> Tensor:
    """Overlap of every box of a (..., N, 2d) with every box of b (..., M, 2d): (..., N, M). See `iou_aligned`."""
    rows, columns = _coordinates(a, kind), _coordinates(b, kind)
    return _overlap([x[..., :, None] for x in rows], [x[..., None, :] for x in columns], kind)


def iou_aligned(a: Tensor, b: Tensor, kind: str = "iou") -> Tensor:
    """Overlap of a (..., 2d) with b (..., 2d), broadcast: (...), in float32 or wider.

    "iou" is in 0..1; "giou" (Rezatofighi et al. 2019) subtracts the empty share of the hull; "diou" and "ciou"
    (Zheng et al. 2020) subtract the centre distance, "ciou" also the difference of aspect (d = 2), whose weight is
    held constant in the gradient as the paper does. Values and gradients are finite for empty boxes too: 0 / 0 is 0.
    Raises ValueError for an unknown kind.
    """
    return _overlap(_coordinates(a, kind), _coordinates(b, kind), kind)


def _coordinates(b: Tensor, kind: str) -> list[Tensor]:
    """One contiguous tensor a coordinate: the arithmetic then vectorizes. Half precision would overflow: it widens."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of IoU {kind!r}: use one of {', '.join(KINDS)}")
    if b.dtype not in (torch.float32, torch.float64):
        b = b.float()
    return list(b.movedim(-1, 0).contiguous())


def _overlap(a: list[Tensor], b: list[Tensor], kind: str) -> Tensor:
    d = len(a) // 2
    size_a, size_b = _extents(a[:d], a[d:]), _extents(b[:d], b[d:])
    inter = _product(_extents(_each(torch.maximum, a[:d], b[:d]), _each(torch.minimum, a[d:], b[d:])))
    union = _product(size_a) + _product(size_b) - inter
    value = inter / _nonzero(union)
    if kind == "iou":
        return value
    hull = _extents(_each(torch.minimum, a[:d], b[:d]), _each(torch.maximum, a[d:], b[d:]))
    if kind == "giou":
        whole = _product(hull)
        return value - (whole - union) / _nonzero(whole)
    middle_a, middle_b = _each(torch.add, a[:d], a[d:]), _each(torch.add, b[:d], b[d:])
    distance = _squares(_each(torch.sub, middle_a, middle_b)) / 4 / _nonzero(_squares(hull))
    if kind == "diou":
        return value - distance
    return value - distance - _aspect(size_a, size_b, value)


def _aspect(a: list[Tensor], b: list[Tensor], value: Tensor) -> Tensor:
    """The aspect term of CIoU; atan p - atan q = atan2(p - q, 1 + p q), with the ratios multiplied out."""
    (wa, ha), (wb, hb) = a, b
    angle = torch.atan((wa * hb - wb * ha) / _nonzero(wa * wb + ha * hb))
    v = (4 / math.pi**2) * angle.square()
    with torch.no_grad():
        weight = v / _nonzero(1 - value + v)
    return weight * v


def _each(f: Callable[[Tensor, Tensor], Tensor], a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [f(x, y) for x, y in zip(a, b, strict=True)]


def _extents(low: Sequence[Tensor], high: Sequence[Tensor]) -> list[Tensor]:
    return [(y - x).clamp_min(0) for x, y in zip(low, high, strict=True)]


def _product(x: Sequence[Tensor]) -> Tensor:
    return reduce(mul, x)


def _squares(x: Sequence[Tensor]) -> Tensor:
    return reduce(add, [v.square() for v in x])


def _nonzero(x: Tensor) -> Tensor:
    """A divisor whose zeros become ones. A small epsilon in their place would make enormous gradients."""
    return torch.where(x == 0, 1, x)
