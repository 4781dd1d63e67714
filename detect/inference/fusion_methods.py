"""Detections of several models in one image become one result: `METHODS`, by the names of `FusionConfig.method`.

Axes: N boxes of all models, M models, C classes, G objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from anchors.nms import batched_nms, overlaps, soft_nms
from anchors.oriented import oriented_iou
from anchors.oriented_nms import oriented_nms
from detect.inference.box_fusion import members_of
from detect.inference.merging import merged
from detect.inference.oriented_fusion import mean_oriented
from detect.types import Detections


class Candidates(NamedTuple):
    """The boxes of all models for one image.

    detections, N; model (N,), the index of the model of each; weights (M,) of the models; knows (M, C), whether a model
    knows a class.
    """

    detections: Detections
    model: np.ndarray
    weights: np.ndarray
    knows: np.ndarray

    @property
    def weighted(self) -> np.ndarray:
        """The scores (N,), each times the weight of its model."""
        scores: np.ndarray = self.detections.scores.double().numpy() * self.weights[self.model]
        return scores

    @property
    def rows(self) -> np.ndarray:
        """The boxes, oriented ones (N, 5) where there are such, else (N, 4)."""
        found = self.detections.boxes if self.detections.oriented is None else self.detections.oriented
        return found.double().numpy()


def weighted_boxes(found: Candidates, iou: float) -> Detections:
    """Weighted boxes fusion (Solovyev et al., 1910.13302, version 3).

    By descending score, a box joins the object of its class whose mean box it overlaps most, or begins a new one. The
    result is the mean box, weighted by the scores. Its score is the mean of those of its boxes, times the share of the
    models that have one. Only models that know the class count.
    """
    scores, labels = found.weighted, found.detections.labels.numpy()
    group = group_models(found.rows, scores, labels, iou, moving=True)
    boxes = np.bincount(group)
    label = labels[np.unique(group, return_index=True)[1]]
    models, weight = found.knows.sum(0)[label], (found.weights @ found.knows)[label]
    fused = np.bincount(group, scores) / boxes * np.minimum(boxes, models) / weight
    return merged(found.detections, scores, group, fused)


def non_maximum_weighted(found: Candidates, iou: float) -> Detections:
    """Non-maximum weighted (Zhou et al., CAD, 2017).

    By descending score, a box joins the object of its class whose best box it overlaps most, or begins a new one. The
    result is the mean box, weighted by scores times the IoU with the best box. Its score is the best one.
    """
    scores, rows = found.weighted / found.weights.max(), found.rows
    group = group_models(rows, scores, found.detections.labels.numpy(), iou, moving=False)
    best = [one[scores[one].argmax()] for one in members_of(group)]
    share = [_overlap(rows[i], rows[one]) for i, one in zip(best, members_of(group), strict=True)]
    weight = scores.copy()
    weight[np.argsort(group, kind="stable")] *= np.concatenate(share)
    return merged(found.detections, weight, group, scores[best])


def suppressed(found: Candidates, iou: float) -> Detections:
    """Non-maximum suppression of the boxes of all models."""
    every = _scaled(found)
    if every.oriented is None:
        return every[batched_nms(every.boxes, every.scores, every.labels, iou)]
    return every[oriented_nms(every.oriented, every.scores, every.labels, iou)]


def softened(found: Candidates, iou: float) -> Detections:
    """Soft-NMS of the boxes of all models, with the Gaussian penalty; `iou` is not read."""
    every = _scaled(found)
    overlap = None if every.oriented is None else oriented_iou(every.oriented, every.oriented)
    kept, scores = soft_nms(every.boxes, every.scores, every.labels, overlap=overlap)
    return replace(every[kept], scores=scores)


METHODS: Mapping[str, Callable[[Candidates, float], Detections]] = {
    "wbf": weighted_boxes,
    "nms": suppressed,
    "soft-nms": softened,
    "nmw": non_maximum_weighted,
}


def group_models(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float, moving: bool) -> np.ndarray:
    """Group boxes by object: see `weighted_boxes` (moving) and `non_maximum_weighted`.

    Args:
        boxes: (N, 4), or (N, 5) oriented.
        scores: (N,), above 0.
        labels: (N,).
        iou: IoU that a member exceeds.
        moving: whether boxes are compared with the mean of an object, not with its best box.

    Returns:
        The number (N,) of the object of each box, from 0.
    """
    group, count, present = np.full(len(boxes), -1), 0, boxes.copy()
    order = (-scores).argsort(kind="stable")
    for rows in (order[labels[order] == label] for label in np.unique(labels)):
        first, members = count, list[list[int]]()
        for i in rows.tolist():
            like = _overlap(boxes[i], present[first:count])
            best = int(like.argmax()) if len(like) else -1
            if best >= 0 and like[best] > iou:
                members[best].append(i)
                if moving:
                    present[first + best] = _mean(boxes[members[best]], scores[members[best]])
            else:
                best, count = count - first, count + 1
                members.append([i])
                present[first + best] = boxes[i]
            group[i] = first + best
    return group


def _mean(boxes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean (4,) or (5,) of some boxes."""
    if boxes.shape[1] == 5:
        return mean_oriented(boxes, weights, np.zeros(len(boxes), int))[0]
    mean: np.ndarray = weights @ boxes / weights.sum()
    return mean


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU (N,) of a box (4,) or (5,) with boxes (N, 4) or (N, 5)."""
    if boxes.shape[1] == 5:
        return oriented_iou(torch.from_numpy(box[None]), torch.from_numpy(boxes))[0].numpy()
    return np.nan_to_num(overlaps(box, boxes.T))


def _scaled(found: Candidates) -> Detections:
    """The detections with scores times the weights of their models, of which the greatest is 1 here."""
    scores = torch.from_numpy(found.weighted / found.weights.max()).float()
    return replace(found.detections, scores=scores)
