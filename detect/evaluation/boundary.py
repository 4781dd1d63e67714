"""Boundary IoU (Cheng et al., 2021, arXiv 2103.16562): how well the outline of a mask fits, whatever its size.

The IoU of two large masks says little of their outlines. The boundary of a mask is its pixels near its outline; the
overlap of two objects is the IoU of their masks or that of their boundaries, whichever is less.
"""

from __future__ import annotations

import cv2
import hotcoco.mask
import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_matching import ImageMatches, matched_overlaps
from detect.evaluation.coco_protocol import Records, engine_inputs, judged
from detect.evaluation.protocol import COCO, Protocol
from detect.masks import RleMasks

SHARE = 0.02  # width of a boundary: share of the diagonal of the image


def boundary_matches(annotations: Annotations, records: Records, protocol: Protocol = COCO) -> list[list[ImageMatches]]:
    """Match detections that have masks by the lesser of mask IoU and boundary IoU; crowd regions by mask alone."""
    _, classes, objects, detections = engine_inputs(annotations, records.rows(judged(annotations, records)[1]))
    if objects.masks is None or detections.masks is None or detections.areas is None:
        raise ValueError("boundaries are those of masks: the detections have none")
    own, found = objects.masks, detections.masks

    def overlap(rows: np.ndarray, some: np.ndarray) -> np.ndarray:
        if not len(rows) or not len(some):
            return np.zeros((len(rows), len(some)))
        crowd = objects.crowd[some]
        values: np.ndarray = np.array(hotcoco.mask.iou(list(found[rows]), list(own[some]), crowd))
        near = (values >= protocol.ious[0]) & ~crowd  # others match nothing, whatever their boundaries
        i, j = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if len(i):
            borders = hotcoco.mask.iou(boundaries(list(found[rows[i]])), boundaries(list(own[some[j]])), 0 * j)
            values[np.ix_(i, j)] = np.minimum(values[np.ix_(i, j)], borders)
        return values

    return matched_overlaps(classes, objects, detections, detections.areas, overlap, protocol)


def boundaries(rles: list[dict]) -> list[dict]:
    """The pixels of masks of one size, COCO RLE dictionaries, that lie within SHARE of the diagonal of their outline.

    The border of the image is part of the outline. At least the pixels next to it belong to the boundary.
    """
    height, width = rles[0]["size"]
    reach = max(1, round(SHARE * float(np.hypot(height, width))))
    masks = RleMasks((height, width), [one["counts"] for one in rles])
    edges = RleMasks.of_windows(masks.size, ((x, y, _edge(mask, reach)) for x, y, mask in masks.windows()))
    return [{"size": [height, width], "counts": counts} for counts in edges.counts]


def _edge(mask: np.ndarray, reach: int) -> np.ndarray:
    """The pixels (h, w) bool of a mask from which a pixel outside is `reach` pixels away or less, in x and in y."""
    if not mask.size:
        return mask
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    inner = cv2.erode(mask.view(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inner == 0)
