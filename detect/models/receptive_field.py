"""Receptive fields and strides of feature maps, computed by tracing a forward pass on the meta device.

For each axis, every feature map has a receptive field (the number of input pixels that one cell sees), a stride (the
number of pixels between neighbouring cells) and a start (where the field of the first cell begins; with padding, this
is outside the image). These follow Araujo et al. (2019). A window of f cells with dilation d and stride s over a
feature map padded by p gives:

    field + (f - 1) * d * stride,    stride * s,    start - p * stride

This is exact for chains of convolutions and pools; after an upsampling it is the mean over cells. Where branches meet
(sum, concatenation), the widest field counts. A vector made from a feature map (global pooling, flattening) sees all of
that map. A gate of one cell that is multiplied into a feature map (squeeze-excitation) does not widen the field,
although it depends on the whole image: otherwise no layer after the first gate would have an informative field. All
other operations are taken to be pointwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class Sight(NamedTuple):
    """Receptive field of the cells of a feature map, in input pixels along each axis.

    The cell in row i sees `field[0]` rows from start[0] + i * stride[0] on; columns are analogous.

    Attributes:
        field: size of the receptive field of one cell.
        stride: distance between neighbouring cells.
        start: where the receptive field of the first cell begins.
    """

    field: tuple[float, ...] = (1, 1)
    stride: tuple[float, ...] = (1, 1)
    start: tuple[float, ...] = (0, 0)

    def window(
        self,
        kernel: Sequence[int],
        stride: Sequence[float],
        dilation: Sequence[int] = (1,),
        padding: Sequence[float] = (0,),
    ) -> Sight:
        """Return the receptive field after a sliding window over this map, padded by `padding` cells at the start."""
        sides = zip(self.field, self.stride, self._each(kernel), self._each(dilation), strict=True)
        field = tuple(f + (k - 1) * d * j for f, j, k, d in sides)
        return Sight(field, self.step(stride), self.shifted(padding).start)

    def shifted(self, padding: Sequence[float]) -> Sight:
        """Return the receptive field with `padding` cells added before the first one, or removed if negative."""
        sides = zip(self.start, self._each(padding), self.stride, strict=True)
        return self._replace(start=tuple(a - p * j for a, p, j in sides))

    def step(self, stride: Sequence[float]) -> tuple[float, ...]:
        """Return the distance between cells if only every `stride`-th is kept; `stride` below 1 means upsampling."""
        return tuple(j * s for j, s in zip(self.stride, self._each(stride), strict=True))

    def _each(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return one value per axis: a single value is repeated; torch pools a signal as an image one pixel high."""
        axes = len(self.field)
        return values[-axes:] if len(values) >= axes else [values[0]] * axes


class Sights(TorchDispatchMode):
    """Context manager that traces the receptive fields of all tensors computed from an image.

    Args:
        image: input (B, C, ...); `get` returns the receptive field of any tensor computed from it.
    """

    def __init__(self, image: Tensor):
        super().__init__()
        axes = image.ndim - 2
        first = Sight((1,) * axes, (1,) * axes, (0,) * axes)
        self.kept: dict[int, tuple[Tensor, Sight]] = {id(image): (image, first)}  # keeps tensors alive: ids are reused

    def get(self, tensor: Tensor) -> Sight | None:
        """Return the receptive field of a tensor; None if it was not computed from the image."""
        found = self.kept.get(id(tensor))
        return found[1] if found else None

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and id(x) in self.kept]
        if seen:
            named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)}
            for x in tree_leaves(out):
                if isinstance(x, Tensor):
                    self.kept[id(x)] = x, self._after(func.overloadpacket, named, seen, x)
        return out

    def _after(self, kind: Any, named: dict[str, Any], seen: list[Tensor], out: Tensor) -> Sight:
        x, before = seen[0], _widest([(t, self.kept[id(t)][1]) for t in seen])
        if kind in _WINDOWS:
            return _WINDOWS[kind](before, named, x, out)
        axes = len(before.field)
        flattened = out.ndim == 2 and len(out) == len(x)  # unlike (B * H * W, C), where cells stay separate
        pooled = _cells(out, axes) == 1 and out.numel() < x.numel()
        if _cells(x, axes) > 1 and (flattened or pooled):
            return before.window(x.shape[2:], x.shape[2:])
        return before


def _cells(x: Tensor, axes: int) -> int:
    """Return the number of cells of a feature map with `axes` spatial axes; 0 if `x` is not a feature map."""
    return math.prod(x.shape[2:]) if x.ndim in (axes + 2, max(axes + 2, 4)) else 0


def _widest(joined: list[tuple[Tensor, Sight]]) -> Sight:
    """Return the widest field and finest stride of the feature maps, for each axis; gates of one cell are ignored."""
    axes = len(joined[0][1].field)
    if any(_cells(x, axes) > 1 for x, _ in joined):
        joined = [(x, sight) for x, sight in joined if _cells(x, axes) != 1]
    fields, strides, starts = (zip(*each, strict=True) for each in zip(*(s for _, s in joined), strict=True))
    return Sight(tuple(map(max, fields)), tuple(map(min, strides)), tuple(map(min, starts)))


def _convolution(before: Sight, named: dict[str, Any], x: Tensor, out: Tensor) -> Sight:
    kernel, stride = named["weight"].shape[2:], named["stride"]
    if named["transposed"]:  # an output cell depends on ceil(f / s) input cells
        cells = [math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)]
        sides = zip(cells, before._each(named["padding"]), kernel, before._each(stride), strict=True)
        ahead = [(n - 1) / 2 - (p - (k - 1) / 2) / s for n, p, k, s in sides]  # keeps the centre of the field in place
        return before.window(cells, [1 / s for s in stride], padding=ahead)
    return before.window(kernel, stride, named["dilation"], named["padding"])


def _pool(before: Sight, named: dict[str, Any], x: Tensor, out: Tensor) -> Sight:
    kernel = named["kernel_size"]
    step, dilation, padding = (named.get(key) or () for key in ("stride", "dilation", "padding"))
    return before.window(kernel, step or kernel, dilation or (1,), padding or (0,))


def _adaptive(before: Sight, named: dict[str, Any], x: Tensor, out: Tensor) -> Sight:
    sizes = list(zip(x.shape[2:], out.shape[2:], strict=True))
    kernel = [max(math.ceil((i + 1) * n / m) - i * n // m for i in range(m)) for n, m in sizes]
    return before.window(kernel, [n / m for n, m in sizes])


def _resize(kernel: int, before: Sight, named: dict[str, Any], x: Tensor, out: Tensor) -> Sight:
    steps = [n / m for n, m in zip(x.shape[2:], out.shape[2:], strict=True)]
    return before.window((kernel, kernel), steps, padding=[(kernel - step) / 2 for step in steps])


def _pad(before: Sight, named: dict[str, Any], x: Tensor, out: Tensor) -> Sight:
    axes = len(before.field)
    ahead = [*named["pad"][: 2 * axes : 2], *[0] * axes][:axes]  # torch lists the last axis first
    return before.shifted(ahead[::-1]) if x.ndim == axes + 2 else before


def _slice(before: Sight, named: dict[str, Any], x: Tensor, out: Tensor) -> Sight:
    steps, skipped, axis = [1] * x.ndim, [0] * x.ndim, named.get("dim", 0)
    steps[axis], skipped[axis] = named.get("step", 1), -(named.get("start") or 0)
    return before.window((1,), steps[2:], padding=skipped[2:]) if x.ndim == len(before.field) + 2 else before


_WINDOWS: dict[Any, Callable[..., Sight]] = {
    aten.convolution: _convolution,
    aten.avg_pool2d: _pool,
    aten.avg_pool3d: _pool,
    aten.max_pool2d_with_indices: _pool,
    aten.max_pool3d_with_indices: _pool,
    aten._adaptive_avg_pool2d: _adaptive,
    aten._adaptive_avg_pool3d: _adaptive,
    aten.adaptive_max_pool2d: _adaptive,
    aten.slice: _slice,
    aten.constant_pad_nd: _pad,
    aten.upsample_nearest2d: partial(_resize, 1),
    aten.upsample_bilinear2d: partial(_resize, 2),
}
