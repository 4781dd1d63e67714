"""The outlines of objects: polygons with holes or COCO's RLE, as flat arrays that forked workers share.

Coordinates are continuous: the pixel (0, 0) covers 0 to 1. Nothing is rasterized or decoded until it is asked for.
Axes: N objects, R rings of all objects, V points of all rings, L characters of all RLEs, S side of a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detect.data import rle
from detect.data.groups import gather, joined, members, starts_of
from detect.data.outline_corners import corners
from detect.data.outline_grids import grids, label_map

MASK_SIDE = 56  # cells along a box's side of the masks that models learn


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines of N objects, each of rings, of an RLE, or missing. Treat the arrays as read-only.

    An object covers its rings painted in their order: one adds what it encloses, a hole removes it. Where a ring
    crosses itself, what it encloses an even number of times is outside.

    Attributes:
        points: (V, 2) float64 x, y in pixels.
        ring_starts: (R + 1,) int64; the points of ring r are rows ring_starts[r]:ring_starts[r + 1].
        holes: (R,) bool.
        object_starts: (N + 1,) int64; the rings of object i are object_starts[i]:object_starts[i + 1].
        codes: (L,) uint8, the characters of compressed RLEs; an object that has one has no rings.
        code_starts: (N + 1,) int64.
        rle_sizes: (N, 2) int32 height and width of each RLE; 0 without one.
        frames: (N, 4, 2) corners of oriented boxes that the file gives beside the outlines, NaN for objects without; or
            None. They do not move.
        whole: whether all are oriented boxes, of four points each, which augmentation does not cut off at the edge of
            the image.
    """

    points: np.ndarray
    ring_starts: np.ndarray
    holes: np.ndarray
    object_starts: np.ndarray
    codes: np.ndarray
    code_starts: np.ndarray
    rle_sizes: np.ndarray
    frames: np.ndarray | None = None
    whole: bool = False

    def __len__(self) -> int:
        return len(self.rle_sizes)

    @classmethod
    def of_polygons(
        cls, objects: Sequence[Sequence[np.ndarray]], holes: Sequence[Sequence[bool]] | None = None
    ) -> Outlines:
        """Make outlines of the rings (V, 2) of each object; `holes` says which of them are (default: none)."""
        rings = [np.asarray(ring, np.float64).reshape(-1, 2) for parts in objects for ring in parts]
        flags = np.zeros(len(rings), bool) if holes is None else np.array([h for parts in holes for h in parts], bool)
        count = len(objects)
        return cls(
            points=np.concatenate([np.zeros((0, 2)), *rings]),
            ring_starts=starts_of([len(ring) for ring in rings]),
            holes=flags,
            object_starts=starts_of([len(parts) for parts in objects]),
            codes=np.zeros(0, np.uint8),
            code_starts=np.zeros(count + 1, np.int64),
            rle_sizes=np.zeros((count, 2), np.int32),
        )

    @classmethod
    def of_masks(cls, masks: Sequence[np.ndarray]) -> Outlines:
        """Make outlines, as RLE, of the masks (h, w) bool of each object."""
        runs = [_runs(np.asarray(mask, bool)) for mask in masks]
        codes, starts = rle.encode(
            np.concatenate([np.zeros(0, np.int64), *runs]), starts_of(np.array([len(r) for r in runs], np.int64))
        )
        sizes = np.array([np.shape(mask) for mask in masks], np.int32).reshape(-1, 2)
        return replace(cls.of_polygons([[]] * len(masks)), codes=codes, code_starts=starts, rle_sizes=sizes)

    @classmethod
    def join(cls, several: Sequence[Outlines]) -> Outlines:
        """Return the objects of several outlines in one."""
        return cls(
            points=np.concatenate([np.zeros((0, 2)), *(one.points for one in several)]),
            ring_starts=joined([one.ring_starts for one in several]),
            holes=np.concatenate([np.zeros(0, bool), *(one.holes for one in several)]),
            object_starts=joined([one.object_starts for one in several]),
            codes=np.concatenate([np.zeros(0, np.uint8), *(one.codes for one in several)]),
            code_starts=joined([one.code_starts for one in several]),
            rle_sizes=np.concatenate([np.zeros((0, 2), np.int32), *(one.rle_sizes for one in several)]),
            frames=_joined_frames(several),
            whole=any(one.whole for one in several),
        )

    def __getitem__(self, index: Any) -> Outlines:
        """Return the outlines of some objects: a slice, indices (M,), or a mask (N,) bool."""
        if isinstance(index, slice) and index.step in (None, 1):
            return self._span(*index.indices(len(self))[:2])
        rows = np.arange(len(self))[index].reshape(-1)
        rings, object_starts = gather(self.object_starts, rows)
        points, ring_starts = gather(self.ring_starts, rings)
        codes, code_starts = gather(self.code_starts, rows)
        return Outlines(
            self.points[points],
            ring_starts,
            self.holes[rings],
            object_starts,
            self.codes[codes],
            code_starts,
            self.rle_sizes[rows],
            None if self.frames is None else self.frames[rows],
            self.whole,
        )

    def _span(self, start: int, end: int) -> Outlines:
        """The outlines of objects that follow one another: parts of the same arrays."""
        end = max(start, end)
        objects, codes = self.object_starts[start : end + 1], self.code_starts[start : end + 1]
        rings = self.ring_starts[objects[0] : objects[-1] + 1]
        return Outlines(
            self.points[rings[0] : rings[-1]],
            rings - rings[0],
            self.holes[objects[0] : objects[-1]],
            objects - objects[0],
            self.codes[codes[0] : codes[-1]],
            codes - codes[0],
            self.rle_sizes[start:end],
            None if self.frames is None else self.frames[start:end],
            self.whole,
        )

    @property
    def present(self) -> np.ndarray:
        """(N,) bool: which objects have an outline."""
        return np.asarray((np.diff(self.object_starts) > 0) | (np.diff(self.code_starts) > 0))

    def rings(self, index: int) -> tuple[list[np.ndarray], list[bool]]:
        """Return the rings (V, 2) of one object, an RLE traced along the edges of its pixels, and which are holes."""
        if self.code_starts[index] < self.code_starts[index + 1]:
            codes = self.codes[self.code_starts[index] : self.code_starts[index + 1]]
            box, pixels = rle.pixels(codes, self.rle_sizes[index])
            traced, holes = rle.trace(pixels)
            return [ring + box[:2] for ring in traced], holes
        span = range(int(self.object_starts[index]), int(self.object_starts[index + 1]))
        return [self.points[self.ring_starts[r] : self.ring_starts[r + 1]] for r in span], [
            bool(self.holes[r]) for r in span
        ]

    def as_rings(self) -> Outlines:
        """Return outlines of rings only: RLEs traced along the edges of their pixels, with holes and islands."""
        if not len(self.codes):
            return self
        encoded = np.flatnonzero(np.diff(self.code_starts))
        traced = [self.rings(i) for i in encoded.tolist()]
        order = np.arange(len(self))
        order[encoded] = len(self) + np.arange(len(encoded))
        drawn = Outlines.of_polygons([rings for rings, _ in traced], [holes for _, holes in traced])
        blank = Outlines.of_polygons([[]] * len(self))
        rings = replace(self, codes=blank.codes, code_starts=blank.code_starts, rle_sizes=blank.rle_sizes)
        return Outlines.join([rings, drawn])[order]

    def owners(self) -> np.ndarray:
        """Return (V,) int64, the object of each point of a ring."""
        return members(self.object_starts)[members(self.ring_starts)]

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Outlines:
        """Return the outlines as rings, with points (V, 2) moved by `move`."""
        rings = self.as_rings()
        return replace(rings, points=move(rings.points), frames=None)

    def bounds(self, view: tuple[int, int] | None = None) -> np.ndarray:
        """Return (N, 4) float64 x, y, x, y of what each object covers, of an image of `view` (h, w) only if given.

        Zeros for an object without an outline, or that is not in the view. Holes do not count.
        """
        found = np.zeros((len(self), 4))
        if len(self.codes):
            found += rle.bounds(self.codes, self.code_starts, self.rle_sizes)
        outer = np.flatnonzero(~self.holes & (np.diff(self.ring_starts) > 0))
        points, starts = gather(self.ring_starts, outer)
        boxes = _ring_bounds(self.points[points], starts, view)
        owner = np.repeat(np.arange(len(self)), np.diff(self.object_starts))[outer]
        seen = (boxes[:, 2:] >= boxes[:, :2]).all(1)
        owner, boxes = owner[seen], boxes[seen]
        if len(owner):
            rows = np.flatnonzero(np.diff(owner, prepend=-1))
            low, high = np.minimum.reduceat(boxes[:, :2], rows), np.maximum.reduceat(boxes[:, 2:], rows)
            found[owner[rows]] = np.concatenate([low, high], 1)
        if view is not None:
            found = found.clip(0, (view[1], view[0], view[1], view[0]))
        return found

    def grids(self, boxes: np.ndarray, side: int = MASK_SIDE) -> np.ndarray:
        """Return each object's mask in the frame of its box.

        Args:
            boxes: (N, 4) x, y, x, y.
            side: S, the cells along each side of a box.

        Returns:
            (N, S, S) uint8, the share (0 to 255) of each cell that is inside; 0 for an object without an outline.
        """
        return grids(self, np.asarray(boxes, np.float64), side)

    def label_map(self, labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return the labels of pixels (h, w) uint8: `labels` (N,) of objects, later ones over earlier, 255 for none."""
        return label_map(self, np.asarray(labels), size)

    def pixels(self, index: int, size: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """Return the pixels (h, w) bool of one object in an image of `size`, as pycocotools has them, and their place.

        Only the window that holds the object is made; the place is the x and y of its first pixel.
        """
        start, end = self.code_starts[index : index + 2].tolist()
        if start < end:
            box, pixels = rle.pixels(self.codes[start:end], self.rle_sizes[index])
            left, top = int(box[0]), int(box[1])
            return (left, top), pixels[: max(size[0] - top, 0), : max(size[1] - left, 0)]
        rings, holes = self.rings(index)
        parts = [rle.pixels(_codes(ring, size), np.array(size)) for ring in rings]
        boxes = [box for box, pixels in parts if pixels.size]
        if not boxes:
            return (0, 0), np.zeros((0, 0), bool)
        left, top = np.min(boxes, axis=0)[:2].tolist()
        right, bottom = np.max(boxes, axis=0)[2:].tolist()
        canvas = np.zeros((bottom - top, right - left), bool)
        for (box, pixels), hole in zip(parts, holes, strict=True):
            canvas[box[1] - top : box[3] - top, box[0] - left : box[2] - left][pixels] = not hole
        return (left, top), canvas

    def corners(self) -> np.ndarray:
        """Return the corners (N, 4, 2) of each object, in order around it; NaN for an object without an outline.

        They are its `frames`, or the points of an outline of four, in their order unless that crosses itself, else
        those of the smallest rotated rectangle around it.
        """
        return self.points.reshape(-1, 4, 2) if self.whole else corners(self)

    def segmentation(self, index: int) -> Any:
        """Return the `segmentation` of one object in a COCO file: polygons, a compressed RLE, or [] without one."""
        start, end = self.code_starts[index : index + 2].tolist()
        if start < end:
            counts = self.codes[start:end].tobytes().decode("latin-1")
            return {"size": self.rle_sizes[index].tolist(), "counts": counts}
        return [ring.ravel().tolist() for ring in self.rings(index)[0]]

    def rle(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return the compressed RLE of one object in an image of `size` (h, w), as pycocotools makes it."""
        if self.code_starts[index] < self.code_starts[index + 1]:
            return dict(self.segmentation(index))
        rings, holes = self.rings(index)
        polygons = [ring.ravel().tolist() for ring in rings if len(ring) > 2]
        if polygons and not any(holes):  # by runs, without a single pixel
            import hotcoco.mask  # late: few commands need it

            merged = hotcoco.mask.merge(hotcoco.mask.frPyObjects(polygons, *size))
            return {"size": list(size), "counts": merged["counts"].decode("ascii")}
        (left, top), pixels = self.pixels(index, size)
        mask = np.zeros(size, bool)
        mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return dict(Outlines.of_masks([mask]).segmentation(0))


def _joined_frames(several: Sequence[Outlines]) -> np.ndarray | None:
    if all(one.frames is None for one in several):
        return None
    return np.concatenate([np.full((len(one), 4, 2), np.nan) if one.frames is None else one.frames for one in several])


def _runs(mask: np.ndarray) -> np.ndarray:
    """The runs (R,) of a mask, column by column, the first of them outside."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False)) if len(flat) else np.zeros(0, np.int64)
    return np.diff(np.concatenate([[0], changes, [len(flat)]]))


def _codes(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The compressed RLE of a polygon."""
    import hotcoco.mask  # late: few commands need it

    if len(ring) < 3:
        return np.zeros(0, np.uint8)
    return np.frombuffer(hotcoco.mask.frPyObjects([ring.ravel().tolist()], *size)[0]["counts"], np.uint8)


def _ring_bounds(points: np.ndarray, starts: np.ndarray, view: tuple[int, int] | None) -> np.ndarray:
    """The boxes (R, 4) of rings, of what lies in the view only if given; a ring outside it has none: low above high."""
    begins = starts[:-1]
    if not len(begins):
        return np.zeros((0, 4))
    if view is None:
        return np.concatenate([np.minimum.reduceat(points, begins), np.maximum.reduceat(points, begins)], 1)
    follow = np.arange(1, len(points) + 1)
    follow[starts[1:] - 1] = begins
    step = points[follow] - points
    room = np.array([view[1], view[0]], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = np.sort(np.stack([-points / step, (room - points) / step]), axis=0)  # shares of the edge: in, out
    level = step == 0  # along an axis: inside on all of its length, or on nothing
    within = (points >= 0) & (points <= room)
    enter = np.where(level, np.where(within, 0, 2), cuts[0]).max(1).clip(0)
    leave = np.where(level, 1, cuts[1]).min(1).clip(max=1)
    ends = np.stack([points + enter[:, None] * step, points + leave[:, None] * step])
    missed = (enter > leave)[:, None]
    low = np.minimum.reduceat(np.where(missed, np.inf, ends.min(0)), begins)
    high = np.maximum.reduceat(np.where(missed, -np.inf, ends.max(0)), begins)
    for corner in room * np.array([[0, 0], [1, 0], [0, 1], [1, 1]]):
        inside = _encloses(points, step, begins, corner)
        low[inside], high[inside] = np.minimum(low[inside], corner), np.maximum(high[inside], corner)
    return np.concatenate([low, high], 1)


def _encloses(points: np.ndarray, step: np.ndarray, begins: np.ndarray, spot: np.ndarray) -> np.ndarray:
    """Whether rings (R,) enclose a spot x, y: a line from it to the right crosses them an odd number of times."""
    x, y = points.T
    passes = (y > spot[1]) != (y + step[:, 1] > spot[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        right = x + (spot[1] - y) / step[:, 1] * step[:, 0] > spot[0]
    return np.asarray(np.add.reduceat((passes & right).astype(np.int64), begins) % 2 == 1)
