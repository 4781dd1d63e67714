"""Oriented boxes: formats, exact overlaps, and the overlap of Gaussians that a loss can follow.

An oriented box is (cx, cy, w, h, angle). The angle is in radians, from the x axis to the side w, towards y: clockwise
on an image, whose y points down. The rows (w, h, angle + k pi) and (h, w, angle + pi / 2 + k pi) are the same box.
Every function takes any of these forms and gives the same for all of them, because it begins with `canonical`; only
`prob_iou_aligned`, which has gradients, is periodic by its formula instead. Sizes below 0 count as 0.
"""

import math

import torch
from torch import Tensor

_STEPS = {torch.float32: 2**21, torch.float64: 2**48}  # angles in half a turn: coarser than the rounding of angle + pi
_BITE = 1 << 13  # pairs clipped at a time, so that their values fit in the CPU cache
_NOISE = 1e-14  # of the product of the longer sides: above the rounding error of a common area
_ROW = 1 << 22  # pairs whose upright bounds are compared at a time
_LEAST_SIDE = 1e-6  # side below which a Gaussian does not become narrower
_SHARP = 1e-3  # distance of Gaussians from which the probabilistic IoU follows its formula; smooth below


def canonical(boxes: Tensor) -> Tensor:
    """Return the one form of each box that has w >= h and an angle in [-pi / 2, pi / 2), below pi / 4 for squares.

    Angles are rounded to multiples of pi / 2**21 in float32 (0.0004 px at 500 px from the centre) and of pi / 2**48 in
    float64. Within a few turns that is coarser than the rounding of a sum, so that all forms of a box that came from
    here give the same bits.

    Args:
        boxes: (..., 5); half precision widens to float32.

    Returns:
        (..., 5), without a gradient for the angle. A box with NaN or an infinite angle has the angle NaN.
    """
    if boxes.shape[-1:] != (5,):
        raise ValueError(f"oriented boxes {tuple(boxes.shape)} must be (..., 5): cx, cy, w, h, angle")
    if boxes.dtype not in _STEPS:
        boxes = boxes.float()
    half_turn = _STEPS[boxes.dtype]
    w, h = boxes[..., 2].clamp_min(0), boxes[..., 3].clamp_min(0)
    turns = boxes[..., 4].detach().to(_wide(boxes)) / math.pi
    defined = turns.isfinite()
    steps = ((turns - turns.round()).masked_fill(~defined, 0) * half_turn).round().long()
    steps = torch.where(w < h, steps + half_turn // 2, steps)
    period = torch.where(w == h, half_turn // 2, half_turn)  # a square is itself again after a quarter turn
    steps = torch.remainder(steps + period // 2, period) - period // 2
    angle = (steps.to(turns.dtype) * (math.pi / half_turn)).to(boxes.dtype).masked_fill(~defined, math.nan)
    return torch.stack((boxes[..., 0], boxes[..., 1], torch.maximum(w, h), torch.minimum(w, h), angle), -1)


def oriented_to_corners(boxes: Tensor) -> Tensor:
    """Return the four corners (..., 4, 2) of boxes (..., 5).

    For the angle 0 they are top left, top right, bottom right, bottom left; others are turned from there, clockwise on
    an image. So is their order.
    """
    boxes = canonical(boxes)
    cx, cy, w, h, angle = boxes.to(_wide(boxes)).unbind(-1)
    along = torch.stack((angle.cos(), angle.sin()), -1) * w[..., None] / 2
    across = torch.stack((-angle.sin(), angle.cos()), -1) * h[..., None] / 2
    center = torch.stack((cx, cy), -1)
    sides = (-along - across, along - across, along + across, across - along)
    return torch.stack([center + side for side in sides], -2).to(boxes.dtype)


def corners_to_oriented(corners: Tensor) -> Tensor:
    """Return the smallest box (..., 5) around four points each (..., 4, 2), in whatever order they are.

    For the corners of a box that is the box. Four points on a line, or in one place, give a box without area.
    """
    if corners.shape[-2:] != (4, 2):
        raise ValueError(f"corners {tuple(corners.shape)} must be (..., 4, 2): four points x, y")
    dtype = corners.dtype if corners.dtype in _STEPS else torch.float32
    points = corners.to(_wide(corners))
    origin = points.mean(-2, keepdim=True)
    points = points - origin
    # The smallest rectangle has a side along one of the convex hull, which joins two of the points.
    first, second = torch.triu_indices(4, 4, 1, device=points.device)
    side = points[..., second, :] - points[..., first, :]
    length = side.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, side / length, side.new_tensor([1.0, 0.0]))
    normal = torch.stack((-unit[..., 1], unit[..., 0]), -1)
    along, across = (points @ axes.mT for axes in (unit, normal))  # (..., 4, 6)
    (low_w, high_w), (low_h, high_h) = (torch.aminmax(x, dim=-2) for x in (along, across))
    w, h = high_w - low_w, high_h - low_h
    best = (w * h).argmin(-1, keepdim=True)
    w, h, mid_w, mid_h = (x.gather(-1, best) for x in (w, h, (low_w + high_w) / 2, (low_h + high_h) / 2))
    unit, normal = (x.gather(-2, best[..., None].expand(*best.shape, 2))[..., 0, :] for x in (unit, normal))
    center = origin[..., 0, :] + mid_w * unit + mid_h * normal
    angle = torch.atan2(unit[..., 1:], unit[..., :1])
    return canonical(torch.cat((center, w, h, angle), -1).to(dtype))


def oriented_bounds(boxes: Tensor) -> Tensor:
    """Return the upright boxes (..., 4), x1 y1 x2 y2, around oriented boxes (..., 5)."""
    boxes = canonical(boxes)
    cx, cy, w, h, angle = boxes.to(_wide(boxes)).unbind(-1)
    cos, sin = angle.cos().abs(), angle.sin().abs()
    x, y = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
    return torch.stack((cx - x, cy - y, cx + x, cy + y), -1).to(boxes.dtype)


def oriented_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU of every box of `a` with every box of `b`, exactly, by clipping one with the other.

    Computed in float64 and only for pairs whose upright bounds meet. A box without area has the IoU 0 with any, one
    with NaN has NaN.

    Args:
        a: boxes (N, 5).
        b: boxes (M, 5).

    Returns:
        (N, M) in the dtype of `a`, at least float32. No gradient.
    """
    first, second = columns(a), columns(b)
    found = first.new_zeros(first.shape[1], second.shape[1])
    rows = max(1, _ROW // max(1, second.shape[1]))
    for start in range(0, first.shape[1], rows):
        i, j = meeting(first[:, start : start + rows], second).unbind(1)
        found[i + start, j] = clipped_iou(first[:, i + start], second[:, j])
    return found.to(torch.promote_types(a.dtype, torch.float32))


def oriented_iou_aligned(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU of boxes one by one, as `oriented_iou` does.

    Args:
        a: boxes (..., 5).
        b: boxes (..., 5); both broadcast.

    Returns:
        (...) in the dtype of `a`, at least float32. No gradient.
    """
    shape = (a + b).shape
    a, b = a.expand(shape), b.expand(shape)
    found = clipped_iou(columns(a.reshape(-1, 5)), columns(b.reshape(-1, 5)))
    return found.reshape(a.shape[:-1]).to(torch.promote_types(a.dtype, torch.float32))


def prob_iou_aligned(a: Tensor, b: Tensor) -> Tensor:
    """Compute the probabilistic IoU of boxes one by one: 1 - the Hellinger distance of two Gaussians.

    The Gaussian of a box has its centre and the covariance of an even density inside it. Values are in 0..1 and
    1 for a box and itself. Gradients are finite everywhere: the distance, whose cone has none at its tip, is rounded
    there, which changes values by at most 0.001.

    Args:
        a: boxes (..., 5), of any scale.
        b: boxes (..., 5); both broadcast.

    Returns:
        (...), in float32 or wider.

    Reference:
        Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union, arXiv 2106.06072, 2021.
    """
    a, b = (box if box.dtype in _STEPS else box.float() for box in (a, b))
    w1, h1, w2, h2 = (box[..., i].clamp_min(_LEAST_SIDE) for box in (a, b) for i in (2, 3))
    between, turn = a[..., :2] - b[..., :2], (a[..., 4] - b[..., 4]).sin().square()
    # With the angle between the boxes, the determinants are sums of squares: nothing cancels, and a box and itself
    # differ by exactly 0. Sides stand for variances, which are their squares / 12.
    scale = 4 * w1 * h1 * w2 * h2
    spread = (w1 * h1 - w2 * h2).square() + (w1 * h2 - h1 * w2).square()
    spread = spread + (w1 - h1) * (w1 + h1) * (w2 - h2) * (w2 + h2) * turn
    excess = spread.clamp_min(0) / scale
    apart = torch.zeros_like(excess)
    for w, h, angle in ((w1, h1, a[..., 4]), (w2, h2, b[..., 4])):
        along = between[..., 0] * angle.cos() + between[..., 1] * angle.sin()
        across = between[..., 1] * angle.cos() - between[..., 0] * angle.sin()
        apart = apart + (w * across).square() + (h * along).square()
    bhattacharyya = 3 * apart / (scale * (1 + excess)) + torch.log1p(excess) / 2
    return 1 + _SHARP - (_SHARP**2 - torch.expm1(-bhattacharyya)).sqrt()


def columns(boxes: Tensor) -> Tensor:
    """Return boxes (N, 5) as rows of one quantity each, for `clipped_iou`.

    Returns:
        (6, N) float64, where the device has it: cx, cy, w, h, cos, sin of the canonical form.
    """
    cx, cy, w, h, angle = canonical(boxes.detach()).to(_wide(boxes)).unbind(-1)
    return torch.stack((cx, cy, w, h, angle.cos(), angle.sin()))


def clipped_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU of pairs of boxes.

    Args:
        a: `columns` (6, P) of the first box of each pair.
        b: `columns` (6, P) of the second.

    Returns:
        (P,), NaN where a box holds NaN.
    """
    if a.is_cpu and a.shape[1] > _BITE:
        bites = zip(torch.split(a, _BITE, 1), torch.split(b, _BITE, 1), strict=True)
        return torch.cat([clipped_iou(one, other) for one, other in bites])
    area_a, area_b = a[2] * a[3], b[2] * b[3]
    swap = area_a > area_b  # the smaller box is clipped by the larger: its corners keep their digits
    a, b = torch.where(swap, b, a), torch.where(swap, a, b)
    inter = _common_area(a, b).minimum(torch.minimum(area_a, area_b))
    inter = inter.masked_fill(inter < _NOISE * a[2] * b[2], 0)  # boxes that only touch have nothing in common
    union = area_a + area_b - inter
    return inter / union.masked_fill(union == 0, 1)


def _common_area(a: Tensor, b: Tensor) -> Tensor:
    """Return the area (P,) that pairs of boxes (6, P) have in common.

    In the frame of b, which is upright there, the area is the integral over x within b of the upper minus the lower
    edge of a, both clamped to b's extent in y: a sum over the four edges of a. It has no cases, so touching and
    coincident edges need no care.
    """
    (ax, ay, w, h, cos_a, sin_a), (bx, by, width, height, cos_b, sin_b) = a, b
    dx, dy, width, height = ax - bx, ay - by, width / 2, height / 2
    x, y = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    along, across = torch.stack((w * cos, w * sin)), torch.stack((-h * sin, h * cos))  # x, y of the sides w and h
    edge = torch.stack((along, across))
    over = _reciprocal(edge)
    edge, over = torch.cat((edge, -edge)), torch.cat((over, -over))  # (4, 2, P), around a
    start = torch.stack((x, y)) - (edge + edge.roll(-1, 0)) / 2  # a point of an edge is at start + t * edge, t in 0..1
    middle = -start * over
    reach_x, reach_y = width * over[:, 0].abs(), height * over[:, 1].abs()
    enter, leave = (middle[:, 0] - reach_x).clamp_(0, 1), (middle[:, 0] + reach_x).clamp_(0, 1)
    low, high = ((middle[:, 1] + way).maximum(enter).minimum(leave) for way in (-reach_y, reach_y))
    turn = (low + high) / 2  # y is constant but between low and high, where it is linear
    first, last = ((start[:, 1] + edge[:, 1] * t).maximum(-height).minimum(height) for t in (enter, leave))
    total: Tensor = (edge[:, 0] * (first * (turn - enter) + last * (leave - turn))).sum(0)
    return -total


def _reciprocal(value: Tensor) -> Tensor:
    """1 / value, or 0 where that is not finite: an edge across x has no area below it, one along y is constant."""
    tiny = value.abs() < torch.finfo(value.dtype).tiny * 4
    return value.masked_fill(tiny, 1).reciprocal_().masked_fill_(tiny, 0)


def meeting(a: Tensor, b: Tensor) -> Tensor:
    """Find the pairs of boxes whose upright bounds meet, or that hold NaN.

    Args:
        a: `columns` (6, N).
        b: `columns` (6, M).

    Returns:
        Indices (P, 2) into a and b.
    """
    apart = a.new_zeros(a.shape[1], b.shape[1], dtype=torch.bool)
    for axis, (one, other) in enumerate(((4, 5), (5, 4))):
        half_a, half_b = ((box[2] * box[one].abs() + box[3] * box[other].abs()) / 2 for box in (a, b))
        apart |= (a[axis, :, None] - b[axis]).abs() > half_a[:, None] + half_b
    return apart.logical_not_().nonzero()


def _wide(boxes: Tensor) -> torch.dtype:
    """float64, but float32 on devices that have no other."""
    return torch.float32 if boxes.device.type == "mps" else torch.float64
