"""How much detections overlap objects: by their boxes, or by their masks or oriented boxes where they have any.

Axes: N detections and G objects of an image.
"""

from __future__ import annotations

import hotcoco.mask
import numpy as np
import torch

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.evaluation.annotated_masks import annotated_masks, detected_masks, image_sizes
from detect.evaluation.coco_protocol import Records
from detect.evaluation.oriented_boxes import annotated_oriented, rotated_iou, rotated_shares

INSIDE = 0.5  # share of a detection in a crowd region above which it belongs to the crowd


def overlaps(annotations: Annotations, records: Records, image: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The overlaps of some detections of an image with its objects.

    Args:
        annotations: the annotations.
        records: the detections.
        image: index of the image in the annotations.
        rows: (N,) the detections, by their place in the records.

    Returns:
        IoU (N, G) with the objects that are no crowd regions, and whether each detection (N,) lies by more than half in
        a crowd region of its class.
    """
    here = slice(int(annotations.starts[image]), int(annotations.starts[image + 1]))
    crowd, labels = annotations.crowd[here], annotations.labels[here]
    if records.oriented is not None:
        found, own = records.oriented[rows], annotated_oriented(annotations)[here]
        values, shares = rotated_iou(found, own[~crowd]), rotated_shares(found, own[crowd])
    elif records.masks is None:
        boxes, targets = records.boxes[rows], annotations.boxes[here]
        values, shares = _box_iou(boxes, targets[~crowd]), _box_shares(boxes, targets[crowd])
    else:
        sizes = image_sizes(annotations)[np.full(len(rows), image)]
        both = _mask_iou(detected_masks(sizes, records.masks[rows]), annotated_masks(annotations)[here], crowd)
        values, shares = both[:, ~crowd], both[:, crowd]
    return values, ((shares > INSIDE) & (records.labels[rows][:, None] == labels[crowd])).any(1)


def _mask_iou(masks: np.ndarray, targets: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU (N, G) of RLE masks; of crowd regions the share of the detection inside."""
    if not len(masks) or not len(targets):
        return np.zeros((len(masks), len(targets)))
    return np.asarray(hotcoco.mask.iou(list(masks), list(targets), crowd))


def _box_iou(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """IoU (N, G) of boxes x, y, width, height."""
    return iou(xywh_to_xyxy(torch.from_numpy(boxes)), xywh_to_xyxy(torch.from_numpy(targets))).numpy()


def _box_shares(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The share of each box (N,) that lies in each region (G,)."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], regions[None, :, :2] + regions[None, :, 2:])
    inside: np.ndarray = (high - low).clip(min=0).prod(-1) / np.maximum(boxes[:, None, 2:].prod(-1), 1e-12)
    return inside
