"""Detections of several views of one image: which are of the same object, so that it counts once.

Axes: N boxes of all views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from anchors.nms import batched_nms
from anchors.oriented_nms import oriented_nms
from detect.masks import RleMasks
from detect.types import Detections, Postprocess


def concatenate_views(detections: Sequence[Detections]) -> tuple[Detections, np.ndarray]:
    """The detections of all views as one, and the number of the view (N,) of each."""
    columns = [(one.boxes, one.scores, one.labels) for one in detections]
    boxes, scores, labels = (torch.cat(column) for column in zip(*columns, strict=True))
    masks = [one.masks for one in detections if isinstance(one.masks, RleMasks)]
    oriented, keypoints = (
        [rows for one in detections if (rows := getattr(one, name)) is not None] for name in ("oriented", "keypoints")
    )
    every = Detections(
        boxes,
        scores,
        labels,
        keypoints=torch.cat(keypoints) if keypoints else None,
        oriented=torch.cat(oriented) if oriented else None,
        masks=RleMasks.join(masks) if masks else None,
    )
    return every, np.repeat(np.arange(len(detections)), [len(one) for one in detections])


def group_views(
    detections: Detections, view: np.ndarray, similarity: Callable[[int], np.ndarray], threshold: float
) -> np.ndarray:
    """Group the detections of several views by object.

    By descending score, each detection joins the object with the most similar member, or begins a new one. Members of
    an object have one class, and no two are of one view, in which suppression has separated them.

    Args:
        detections: those of all views, N.
        view: the view (N,) of each.
        similarity: gives the similarity (N,) of the detection with an index to all others.
        threshold: the least similarity of members.

    Returns:
        The number (N,) of the object of each detection, from 0.
    """
    labels = detections.labels.numpy()
    group = np.full(len(detections), -1)
    there = np.zeros((len(detections), view.max(initial=0) + 1), bool)  # whether an object has a member of a view
    count = 0
    for i in (-detections.scores.numpy()).argsort(kind="stable"):
        open_ = (group >= 0) & (labels == labels[i])
        open_ &= ~there[group, view[i]]
        like = np.where(open_, similarity(i), 0.0)
        best = like.argmax()
        if like[best] >= threshold:
            group[i] = group[best]
        else:
            group[i], count = count, count + 1
        there[group[i], view[i]] = True
    return group


def members_of(group: np.ndarray) -> list[np.ndarray]:
    """The indices of the detections of each object, by the number of the object (N,) of each."""
    order = group.argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(group) else []


def suppress(detections: Detections, keep: Postprocess) -> Detections:
    """The detections that score, NMS and the limit of `keep` leave, by descending score."""
    detections = _scoring(detections, keep)
    groups = torch.zeros_like(detections.labels) if keep.agnostic else detections.labels
    if detections.oriented is None:
        kept = batched_nms(detections.boxes, detections.scores, groups, keep.iou)
    else:
        kept = oriented_nms(detections.oriented, detections.scores, groups, keep.iou)
    return _best(detections[kept], keep)


def strongest(detections: Detections, keep: Postprocess) -> Detections:
    """The detections that score and limit of `keep` leave, by descending score."""
    detections = _scoring(detections, keep)
    return _best(detections[detections.scores.argsort(descending=True, stable=True)], keep)


def _scoring(detections: Detections, keep: Postprocess) -> Detections:
    least = keep.score if keep.class_scores is None else torch.tensor(keep.class_scores)[detections.labels]
    return detections[detections.scores > least]


def _best(detections: Detections, keep: Postprocess) -> Detections:
    keep.limit_hits.add(limited=len(detections) > keep.limit)
    return detections[: keep.limit]
