"""Large pictures in pieces: tiles that overlap are looked at one by one, and what they show of one object is joined.

Two tiles agree on an object where their boxes, both cut off at the zone that both tiles see, are the same: so is one
that both show whole, one that the border of a tile cuts, and one too large for any tile. An object that several tiles
show has each of its sides from the surest of those that show this side. The whole picture is looked at too, made small,
for objects that no tile shows whole.

Axes: N boxes of all views.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from anchors.boxes import iou
from detect.inference.box_fusion import concatenate_views, group_views, suppress
from detect.inference.predictor import prefetch
from detect.types import Detections, Frame, Postprocess

OVERLAP = 0.25  # of a tile's side, at least, that its neighbour sees too
SAME = 0.5  # the IoU, in the zone that two tiles see, from which boxes are of one object
NEAR = 0.005  # of a tile's side: a box that ends so near its tile's border may go on behind it


class TiledPredictor:
    """A predictor that looks at tiles of `side` pixels, and at the whole: frames to detections."""

    def __init__(self, predictor: Any, side: int, keep: Postprocess) -> None:
        self.predictor, self.side, self.keep = predictor, side, keep

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Detections], None, None]:
        """Each frame with its detections in its own pixels, best first."""
        with closing(prefetch(frames, ahead=4)) as coming:
            for frame in coming:
                height, width = frame.image.shape[:2]
                places = tile_places(height, width, self.side)
                views = [replace(frame, image=frame.image[y1:y2, x1:x2]) for x1, y1, x2, y2 in places.tolist()]
                with self.keep.limit_hits.one_image():
                    found = [one for _, one in self.predictor(views)]
                    whole = found[0] if len(found) == 1 else self._whole(found, places)
                yield frame, whole

    def _whole(self, found: list[Detections], places: np.ndarray) -> Detections:
        low, high = found[0].boxes[:, None].split(2, -1)
        tile, coarse = torch.from_numpy(places[1:]), places[0].max() / self.side  # a pixel of the small whole
        torn = ~((low >= tile[:, :2] - coarse) & (high <= tile[:, 2:] + coarse)).all(-1).any(1)
        corners = torch.from_numpy(places[:, [0, 1, 0, 1]]).float()
        moved = [replace(one, boxes=one.boxes + corner) for one, corner in zip(found, corners, strict=True)]
        return suppress(merge_tiles([moved[0][torn], *moved[1:]], places, NEAR * self.side), self.keep)


def tile_places(height: int, width: int, side: int) -> np.ndarray:
    """Places (T, 4) xyxy of the views of a picture: first the whole, then, where it is larger, its tiles of `side`."""
    rows, columns = (_starts(n, side) for n in (height, width))
    parts = [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]
    return np.array([(0, 0, width, height), *(parts if len(parts) > 1 else [])])


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that cover `length`, evenly spread."""
    if length <= side:
        return [0]
    overlap = math.ceil(side * OVERLAP)
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(x) for x in np.linspace(0, length - side, count)]


def merge_tiles(found: list[Detections], places: np.ndarray, near: float) -> Detections:
    """The objects that views at `places` (T, 4) of one picture show, all in pixels of the picture."""
    every, view = concatenate_views(found)
    if not len(every):
        return every
    boxes, frame = every.boxes.double().numpy(), places[view].astype(float)

    def alike(i: int) -> np.ndarray:
        zone = _common(frame, frame[i])
        mine, theirs = _common(zone, boxes[i]), _common(zone, boxes)
        inter = _area(_common(mine, theirs))
        return inter / np.maximum(_area(mine) + _area(theirs) - inter, 1e-9)

    group = group_views(every, view, alike, SAME)
    cut = (np.abs(boxes - frame) <= near) & (frame != places[0])
    order = np.lexsort((-every.scores.numpy(), view == 0, group))  # object by object: tiles first, the best of them
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    sides = torch.from_numpy(np.stack([_sides(boxes[rows], cut[rows]) for rows in members])).float()
    scores = torch.stack([every.scores[rows].max() for rows in members])
    labels = every.labels[[rows[0] for rows in members]]
    coarse = torch.tensor([bool((view[rows] == 0).all()) for rows in members])  # of the whole picture alone
    same = (iou(sides, sides) >= SAME) & (labels[:, None] == labels) & ~coarse
    return Detections(sides, scores, labels)[~(coarse & same.any(1))]


def _sides(boxes: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The box (4,) of one object from its boxes (N, 4), best first: each side from the first that is not `cut` there.

    One that is cut in all of them lies at the outermost.
    """
    outer = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    seen = boxes[(~cut).argmax(0), np.arange(4)]
    return np.where(cut.all(0), outer, seen)


def _common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What boxes (..., 4) share, of no positive side where that is nothing."""
    return np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], -1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)
