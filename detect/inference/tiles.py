"""Prediction on large images by overlapping tiles, whose detections of one object are merged.

Boxes of two tiles are of one object if they, or the masks in them, agree in the zone that both tiles cover: this holds
for an object that both show whole, for one that the border of a tile cuts, and for one too large for any tile. A merged
box has each of its sides from the most confident tile that shows this side; a merged mask is the union of the masks.
The whole image is predicted too, scaled down, for objects that no tile shows whole.

Axes: N boxes of all views, T views: the whole image and its tiles.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from anchors.boxes import iou
from detect.inference.box_fusion import concatenate_views, group_views, suppress
from detect.inference.mask_fusion import agreement, united
from detect.inference.oriented_fusion import merge_oriented_tiles
from detect.inference.predictor import prefetch
from detect.masks import RleMasks
from detect.types import Detections, Frame, Postprocess

OVERLAP = 0.25  # least overlap of two tiles, as a share of a tile's side
SAME = 0.5  # the IoU, in the zone that two tiles share, from which two boxes are of one object
WINDOWS = 256  # decoded masks that are kept while objects of tiles are compared
EDGE = 0.005  # as a share of a tile's side: a box that ends this near the border of its tile may go on behind it


class TiledPredictor:
    """A predictor of tiles of `side` pixels and of the whole image: frames to merged detections."""

    def __init__(self, predictor: Any, side: int, keep: Postprocess) -> None:
        self.predictor, self.side, self.keep = predictor, side, keep

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Detections], None, None]:
        """Each frame with its detections, in pixels of the frame, by descending score."""
        with closing(prefetch(frames, ahead=4)) as coming:
            for frame in coming:
                height, width = frame.image.shape[:2]
                places = tile_places(height, width, self.side)
                views = [replace(frame, image=frame.image[y1:y2, x1:x2]) for x1, y1, x2, y2 in places.tolist()]
                with self.keep.limit_hits.one_image():
                    detections = [one for _, one in self.predictor(views)]
                    merged = detections[0] if len(detections) == 1 else self._merge(detections, places)
                yield frame, merged

    def _merge(self, detections: list[Detections], places: np.ndarray) -> Detections:
        low, high = detections[0].boxes[:, None].split(2, -1)
        tile, coarse = (
            torch.from_numpy(places[1:]),
            places[0].max() / self.side,
        )  # pixels of the image to one of the scaled-down image
        partial = ~((low >= tile[:, :2] - coarse) & (high <= tile[:, 2:] + coarse)).all(-1).any(1)
        size = (int(places[0, 3]), int(places[0, 2]))
        moved = [_moved(one, x, y, size) for one, (x, y, _, _) in zip(detections, places.tolist(), strict=True)]
        merge = merge_tiles if detections[0].oriented is None else merge_oriented_tiles
        return suppress(merge([moved[0][partial], *moved[1:]], places, EDGE * self.side), self.keep)


def tile_places(height: int, width: int, side: int) -> np.ndarray:
    """Places (T, 4) xyxy of the views of an image: the whole, then, if it is larger than one, its tiles of `side`."""
    rows, columns = (_starts(n, side) for n in (height, width))
    parts = [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]
    return np.array([(0, 0, width, height), *(parts if len(parts) > 1 else [])])


def _starts(length: int, side: int) -> list[int]:
    """The first pixels of tiles that cover `length`, evenly spread."""
    if length <= side:
        return [0]
    overlap = math.ceil(side * OVERLAP)
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(x) for x in np.linspace(0, length - side, count)]


def merge_tiles(detections: list[Detections], places: np.ndarray, near: float) -> Detections:
    """The merged detections of all views, in pixels of the image.

    Args:
        detections: those of each view, in pixels of the image.
        places: the place of each view (T, 4) xyxy.
        near: distance in pixels up to which a side counts as cut by the border of its view.
    """
    merged, view = concatenate_views(detections)
    if not len(merged):
        return merged
    boxes, frame, masks = merged.boxes.double().numpy(), places[view].astype(float), merged.masks
    window = lru_cache(WINDOWS)(masks.window) if isinstance(masks, RleMasks) else None

    def similarity(i: int) -> np.ndarray:
        zone = _common(frame, frame[i])
        own_parts, other_parts = _common(zone, boxes[i]), _common(zone, boxes)
        inter = _area(_common(own_parts, other_parts))
        like = inter / np.maximum(_area(own_parts) + _area(other_parts) - inter, 1e-9)
        if window:  # boxes of a part of an object that lies askew reach far beyond the zone
            unsure = (like > 0) & (like < SAME) & (view != view[i]) & (merged.labels == merged.labels[i]).numpy()
            for j in np.flatnonzero(unsure).tolist():
                like[j] = max(like[j], agreement(window(i), window(j), zone[j].astype(int).tolist()))
        return like

    group = group_views(merged, view, similarity, SAME)
    cut = (np.abs(boxes - frame) <= near) & (frame != places[0])
    order = np.lexsort((-merged.scores.numpy(), view == 0, group))  # by object: tiles first, by descending score
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    sides = torch.from_numpy(np.stack([_sides(boxes[rows], cut[rows]) for rows in members])).float()
    scores = torch.stack([merged.scores[rows].max() for rows in members])
    labels = merged.labels[[rows[0] for rows in members]]
    joined = united(masks, members, places[view], view == 0) if isinstance(masks, RleMasks) else None
    coarse = torch.tensor([bool((view[rows] == 0).all()) for rows in members])  # seen in the whole image alone
    same = (iou(sides, sides) >= SAME) & (labels[:, None] == labels) & ~coarse
    return Detections(sides, scores, labels, masks=joined)[~(coarse & same.any(1))]


def _moved(detections: Detections, x: int, y: int, size: tuple[int, int]) -> Detections:
    """Detections in a view whose corner is at x, y of the image of `size` (h, w), in pixels of the image."""
    masks = detections.masks.shifted(x, y, size) if isinstance(detections.masks, RleMasks) else None
    corner = torch.tensor([x, y, x, y, 0]).float()
    oriented = None if detections.oriented is None else detections.oriented + corner * torch.tensor([1, 1, 0, 0, 0])
    return replace(detections, boxes=detections.boxes + corner[:4], oriented=oriented, masks=masks)


def _sides(boxes: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The box (4,) of one object from its boxes (N, 4), best first: each side from the first box that is not cut there.

    A side that is `cut` (N, 4) in all of them is the outermost.
    """
    outer = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    seen = boxes[(~cut).argmax(0), np.arange(4)]
    return np.where(cut.all(0), outer, seen)


def _common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The intersection of boxes (..., 4); its sides are not positive where there is none."""
    return np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], -1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)
