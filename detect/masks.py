"""Masks of objects: a base that a model returns in a form of its own, and the final form, COCO's run-length encoding.

A mask of an image (h, w) is a bool array of that shape. Run-length encoding (RLE) lists the lengths of its runs in
column-major order, the first one of pixels outside; COCO packs these lengths into bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from detect.data.letterbox import Letterbox

Index = Tensor | np.ndarray | slice | Sequence[int]
Window = tuple[int, int, np.ndarray]  # x, y of the upper left pixel, and the bool array (h, w)
TOGETHER = 2**15  # edges of masks that are packed at once


class Field(NamedTuple):
    """A grid of logits over an image: an object is where their bilinear interpolation is above 0, in a window.

    Attributes:
        logits: (h, w), at least 1 x 1; beyond the outer ones their values go on.
        origin: x, y of the first one in pixels of the image, where pixel (0, 0) covers 0 to 1.
        step: distances between neighbours in x and y, in pixels of the image.
        window: (left, top, right, bottom) in whole pixels of the image.
    """

    logits: np.ndarray
    origin: tuple[float, float]
    step: tuple[float, float]
    window: tuple[int, int, int, int]


class Masks:
    """Base of the masks of N detections, in the form that a model makes; `in_source` makes the final form."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: Index) -> Masks:
        """The masks of a mask, index or slice."""
        raise NotImplementedError

    def cpu(self) -> Masks:
        """The masks on the CPU."""
        return self

    def in_source(self, fit: Letterbox, boxes: Tensor) -> RleMasks:
        """The masks in pixels of the source image.

        Args:
            fit: how the image lies on the canvas of the masks.
            boxes: the detected boxes (N, 4) xyxy in pixels of the source image, inside it.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class RleMasks(Masks):
    """Masks of N objects of one image, of which none is decoded until it is asked for.

    Attributes:
        size: (h, w) of the image in pixels.
        counts: the runs of each mask, as the bytes of COCO's compressed RLE.
    """

    size: tuple[int, int]
    counts: list[bytes]

    @staticmethod
    def of(dense: np.ndarray) -> RleMasks:
        """Masks from bool arrays (N, h, w)."""
        size = (int(dense.shape[1]), int(dense.shape[2]))
        return RleMasks.of_windows(size, ((0, 0, mask) for mask in dense))

    @staticmethod
    def of_windows(size: tuple[int, int], windows: Iterable[Window]) -> RleMasks:
        """Masks that are known within windows and empty elsewhere.

        Args:
            size: (h, w) of the image.
            windows: for each object x, y and a bool array; what lies outside the image is left out.
        """
        return RleMasks(size, _packed(size, (_edges(size, *window) for window in windows)))

    @staticmethod
    def of_fields(size: tuple[int, int], fields: Iterable[Field]) -> RleMasks:
        """The pixels whose centres have a logit above 0, found without an array of pixels.

        Args:
            size: (h, w) of the image.
            fields: the logits of each object.
        """
        return RleMasks(size, _packed(size, (_crossings(size[0], field) for field in fields)))

    @staticmethod
    def join(several: Sequence[RleMasks]) -> RleMasks:
        """The masks of several results of one image, one after the other; at least one result."""
        return RleMasks(several[0].size, [counts for one in several for counts in one.counts])

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Index) -> RleMasks:
        chosen = np.arange(len(self))[np.asarray(index) if isinstance(index, Tensor) else index]
        return RleMasks(self.size, [self.counts[i] for i in chosen])

    def in_source(self, fit: Letterbox, boxes: Tensor) -> RleMasks:
        """These masks, which are in pixels of the source image already."""
        return self

    def decode(self, i: int) -> np.ndarray:
        """Mask `i` as a bool array (h, w)."""
        import hotcoco.mask

        mask: np.ndarray = hotcoco.mask.decode(self.to_coco(i)).astype(bool)
        return mask

    def window(self, i: int) -> Window:
        """The bounding box of mask `i`: x, y of its upper left pixel, and the bool array (h, w) inside."""
        from detect.data import rle

        height = self.size[0]
        codes = np.frombuffer(self.counts[i], np.uint8)
        runs, _ = rle.decode(codes, np.array([0, len(codes)]))
        edges = np.cumsum(runs)[: len(runs) // 2 * 2]  # without a last run outside
        if not runs[1::2].any():
            return 0, 0, np.zeros((0, 0), bool)
        left, right = int(edges[0]) // height, (int(edges[-1]) - 1) // height + 1
        flat = np.zeros((right - left) * height, bool)
        inside = np.repeat(np.arange(len(edges)) % 2 == 1, np.diff(edges - left * height, prepend=0))
        flat[: len(inside)] = inside
        columns = flat.reshape(-1, height)
        rows = np.flatnonzero(columns.any(0))
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        return left, top, np.ascontiguousarray(columns[:, top:bottom].T)

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each mask (N,) int64."""
        import hotcoco.mask

        return np.asarray(hotcoco.mask.area(self._all()), np.int64).reshape(-1)

    def by_area(self) -> list[int]:
        """The indices of the masks, the largest first: painted in this order, small masks lie on large ones."""
        order: list[int] = np.argsort(-self.areas, kind="stable").tolist()
        return order

    def polygons(self, i: int) -> list[np.ndarray]:
        """The outer borders of mask `i`, along the edges of its pixels: a polygon (V, 2) xy for each part.

        Holes are left out. Coordinates are continuous: pixel (0, 0) covers 0 to 1.
        """
        from detect.data import rle

        left, top, mask = self.window(i)
        return [ring + np.array([left, top]) for ring, hole in zip(*rle.trace(mask), strict=True) if not hole]

    def numpy(self) -> np.ndarray:
        """All masks, decoded: (N, h, w) bool."""
        return np.array([self.decode(i) for i in range(len(self))], bool).reshape(len(self), *self.size)

    def to_coco(self, i: int) -> dict[str, Any]:
        """Mask `i` as the `segmentation` of COCO files: `size` and `counts`, ready for `json.dump`."""
        return {"size": list(self.size), "counts": self.counts[i].decode("ascii")}

    def iou(self, other: RleMasks) -> np.ndarray:
        """IoU of each of these masks with each of `other`: (N, M) float64, 0 where both are empty.

        Raises:
            ValueError: the images differ in size.
        """
        import hotcoco.mask

        if self.size != other.size:
            raise ValueError(f"masks of images of {self.size} and {other.size} pixels cannot be compared")
        if not len(self) or not len(other):
            return np.zeros((len(self), len(other)))
        return np.asarray(hotcoco.mask.iou(self._all(), other._all(), [0] * len(other)), np.float64)

    def mirrored(self) -> RleMasks:
        """The masks of the image mirrored left to right."""
        width = self.size[1]
        return self.of_windows(self.size, ((width - x - m.shape[1], y, m[:, ::-1]) for x, y, m in self.windows()))

    def shifted(self, x: int, y: int, size: tuple[int, int]) -> RleMasks:
        """The masks on another image, of which this one is a part or which is a part of this one.

        Args:
            x, y: where the upper left pixel of this image lies on the other, perhaps outside.
            size: (h, w) of the other image.
        """
        return self.of_windows(size, ((left + x, top + y, mask) for left, top, mask in self.windows()))

    def union(self, groups: Sequence[Sequence[int]]) -> RleMasks:
        """One mask for each group of indices: every pixel that a mask of the group has."""
        import hotcoco.mask

        (empty,) = _packed(self.size, [np.zeros(0, np.int64)])
        parts = [[self.to_coco(i) for i in group] for group in groups]
        return RleMasks(self.size, [hotcoco.mask.merge(part)["counts"] if part else empty for part in parts])

    def windows(self) -> Iterator[Window]:
        """The window of each mask."""
        return map(self.window, range(len(self)))

    def _all(self) -> list[dict[str, Any]]:
        return [self.to_coco(i) for i in range(len(self))]


def _edges(size: tuple[int, int], x: int, y: int, mask: np.ndarray) -> np.ndarray:
    """Where each run inside starts and ends, of a mask that is known within a window: see `_packed`."""
    height, width = size
    mask = mask[max(0, -y) : max(0, height - y), max(0, -x) : max(0, width - x)]
    x, y = max(x, 0), max(y, 0)
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)  # a pixel outside before and after each column
    columns[:, 1:-1] = mask.T
    column, row = np.nonzero(np.diff(columns, axis=1))
    return (column + x) * height + row + y


def _crossings(height: int, field: Field) -> np.ndarray:
    """Where each run inside starts and ends, as in `_packed`: within a cell of the grid a column crosses 0 once."""
    logits, origin, step, (left, top, right, bottom) = field
    place = ((np.arange(left, right) + 0.5 - origin[0]) / step[0]).clip(0, logits.shape[1] - 1)
    before = place.astype(np.int64)
    after = np.minimum(before + 1, logits.shape[1] - 1)
    values = logits[:, before] + (place - before) * (logits[:, after] - logits[:, before])
    inside = np.zeros((len(logits) + 2, right - left), bool)
    inside[1:-1] = values > 0
    column, row = np.nonzero((inside[1:] != inside[:-1]).T)
    edge = np.where(row == 0, top, bottom)
    within = (row > 0) & (row < len(logits))
    above, below = values[row[within] - 1, column[within]], values[row[within], column[within]]
    crossing = origin[1] + (row[within] - 1 + above / (above - below)) * step[1]
    edge[within] = np.ceil(crossing - 0.5).clip(top, bottom)
    return (left + column) * height + edge


def _packed(size: tuple[int, int], edges: Iterable[np.ndarray]) -> list[bytes]:
    """COCO's bytes of masks, some at once.

    Args:
        size: (h, w) of the image.
        edges: for each mask where its runs inside start and end, in turns, as numbers of pixels in column-major order.
            Runs may be empty, or go on where one ends.
    """
    packed, waiting, count = list[bytes](), list[np.ndarray](), 0
    for one in edges:
        waiting.append(one)
        count += len(one)
        if count > TOGETHER:
            packed += _packed_together(size, waiting)
            waiting, count = [], 0
    return packed + (_packed_together(size, waiting) if waiting else [])


def _packed_together(size: tuple[int, int], edges: Sequence[np.ndarray]) -> list[bytes]:
    from detect.data import rle

    area = size[0] * size[1]
    first = np.arange(len(edges)) * (area + 1)  # as if the images lay one after the other, a pixel apart
    flat = np.concatenate([one + start for one, start in zip(edges, first, strict=True)])
    flat = flat[np.repeat(flat[::2] < flat[1::2], 2)]
    joined = 2 * np.flatnonzero(flat[2::2] == flat[1:-1:2])  # a run that goes on at the top of the next column
    flat = np.sort(np.concatenate([np.delete(flat, np.concatenate([joined + 1, joined + 2])), first, first + area]))
    begin, end = np.searchsorted(flat, first), np.searchsorted(flat, first + area, "right") - 1
    runs, kept = np.diff(flat), np.ones(len(flat) - 1, bool)
    kept[begin[1:] - 1] = False  # the pixel between two images
    kept[end - 1] = runs[end - 1] > 0  # a last run outside may be empty
    starts = np.concatenate([[0], np.cumsum(kept)])[np.append(begin, len(kept))]
    codes, starts = rle.encode(runs[kept], starts)
    return [codes[start:end].tobytes() for start, end in pairwise(starts.tolist())]
