"""The detections of several models for one image, fused: classes by name, keypoints in one order, limits once.

Axes: M models, C classes of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from detect.config.fusion import FusionConfig
from detect.errors import UserError
from detect.inference.box_fusion import concatenate_views, strongest, suppress
from detect.inference.fusion_methods import METHODS, Candidates
from detect.limits import LimitHits
from detect.types import Detections, Postprocess
from detect.utils.names import find

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.models.base import ModelMetadata


class DetectionFusion:
    """Fuses the detections of models, in pixels of one image.

    Args:
        members: the models.
        weights: their files, for messages.
        fusion: the method and its options.

    Raises:
        UserError: the models have other keypoints, or classes that their names do not tell apart.
    """

    def __init__(self, members: Sequence[Detector], weights: Sequence[str], fusion: FusionConfig) -> None:
        self.options, self.method, self.each = fusion, fusion.method, [member.metadata for member in members]
        every = self.each
        self.metadata, self.labels = joined_classes(every, weights)
        self.points = [_points(every[0], other, path) for other, path in zip(every, weights, strict=True)]
        self.weights = np.array(fusion.weights or [1.0] * len(members), float)
        # What NMS in an exported file has left out takes no part.
        self.files = [getattr(member.model, "about", None) for member in members]
        self.knows = np.zeros((len(members), len(self.metadata.names)), bool)
        for row, labels in zip(self.knows, self.labels, strict=True):
            row[labels.numpy()] = True

    def member_postprocess(self, keep: Postprocess) -> list[Postprocess]:
        """What each model keeps, so that `keep` can be applied to what is fused of it."""
        skip = keep.score / len(self.labels) if self.options.skip is None else self.options.skip
        each = []
        for metadata, labels, file in zip(self.each, self.labels, self.files, strict=True):
            own = metadata.postprocess(skip)  # what is fused are calibrated confidences, what is kept are scores
            least = min(file.conf, metadata.postprocess(keep.score).score) if file and file.suppressed else 0.0
            by_class = own.class_scores and tuple(max(least, one) for one in own.class_scores)
            classes = None
            if keep.classes is not None:
                classes = tuple(i for i, label in enumerate(labels.tolist()) if label in keep.classes)
            kept = replace(keep, score=max(least, own.score), class_scores=by_class)
            each.append(replace(kept, classes=classes, limit_hits=LimitHits()))
        return each

    def __call__(self, keep: Postprocess, results: Sequence[Detections]) -> Detections:
        """The detections of one image, by descending score.

        Args:
            keep: confidence threshold and limit of what is fused, and its IoU where the options have none: boxes that
                a model keeps apart are two objects, which the fusion must not join.
            results: those of each model.
        """
        moved = [
            replace(one, labels=labels[one.labels], keypoints=None if one.keypoints is None else one.keypoints[:, own])
            for one, labels, own in zip(results, self.labels, self.points, strict=True)
        ]
        every, model = concatenate_views(moved)
        if not len(every):
            return every
        iou = keep.iou if self.options.iou is None else self.options.iou
        found = METHODS[self.options.method](Candidates(every, model, self.weights, self.knows), iou)
        return suppress(found, keep) if keep.agnostic else strongest(found, keep)


def joined_classes(every: Sequence[ModelMetadata], weights: Sequence[str]) -> tuple[ModelMetadata, list[Tensor]]:
    """The classes of several models, matched by name.

    A class that the first model lacks comes after its own, with its id, or with the next free one.

    Returns:
        The metadata of the first model with all classes, and for each model the label of each of its classes.

    Raises:
        UserError: a model has several classes of one name, which the ids do not tell apart.
    """
    names, ids = list(every[0].names), list(every[0].category_ids)
    labels = []
    for metadata, path in zip(every, weights, strict=True):
        place = find(metadata.names, metadata.category_ids, names, ids, path)
        if metadata is every[0]:
            place = list(range(len(names)))
        for i, label in enumerate(place):
            if label < 0:
                place[i] = len(names)
                names.append(metadata.names[i])
                ids.append(metadata.category_ids[i] if metadata.category_ids[i] not in ids else max(ids) + 1)
        if len(set(place)) < len(place):
            raise UserError(f"{path} has several classes of one name, which the other weights have once: rename them")
        labels.append(torch.tensor(place, dtype=torch.int64))
    return replace(every[0], names=names, category_ids=ids, confidence=None, calibration=None), labels


def _points(first: ModelMetadata, other: ModelMetadata, path: str) -> Tensor:
    """The index in `other` of each keypoint of `first`. Raises UserError where they are not the same."""
    names, count = other.keypoint_names, len(other.keypoint_names)
    place = find(first.keypoint_names, range(len(first.keypoint_names)), names, range(count), path)
    if -1 in place or len(place) != count:
        raise UserError(f"{path}: its keypoints are not those of the first weights: they cannot be fused")
    return torch.tensor(place, dtype=torch.int64)
