"""Which classes and keypoints of the annotations are those of the weights, by name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.utils.names import distinct, find, say

if TYPE_CHECKING:
    from detect.models.base import ModelMetadata


def labels_of(metadata: ModelMetadata, annotations: Annotations) -> Tensor:
    """The labels that the classes of the weights have in the annotations.

    Prints which annotated classes the weights lack.

    Returns:
        (C,) int64 a label for each class of the weights, -1 for classes that are not annotated.

    Raises:
        UserError: no class is in both, or the weights have several classes of one name that their ids do not tell
            apart.
    """
    ids = annotations.category_ids.tolist()
    place = torch.tensor(find(annotations.names, ids, metadata.names, metadata.category_ids, "the weights file"))
    labels = torch.full((len(metadata.names),), -1)
    labels[place[place >= 0]] = torch.where(place >= 0)[0]
    if not (labels >= 0).any():
        theirs, ours = (
            ", ".join(names[:10]) + ", …" * (len(names) > 10) for names in (metadata.names, annotations.names)
        )
        raise UserError(
            f"{annotations.path} has none of the classes of the weights: {theirs}; it has {ours}: choose weights that "
            "were trained on these, fine-tune with detect train, or rename the classes in the annotations"
        )
    if missed := sorted(name for name, i in zip(annotations.names, place.tolist(), strict=True) if i < 0):
        say(f"classes that the weights lack, counted as missed: {', '.join(missed)}", sys.stderr)
    return labels


def by_name(metadata: ModelMetadata, annotations: Annotations) -> Tensor:
    """`labels_of`; also prints which classes of the weights are not annotated, so that they do not count."""
    labels = labels_of(metadata, annotations)
    names = distinct(metadata.names, metadata.category_ids)
    if lost := [name for name, label in zip(names, labels.tolist(), strict=True) if label < 0]:
        say(f"classes that {annotations.path} lacks, not counted: {', '.join(lost)}", sys.stderr)
    return labels


def points_by_name(metadata: ModelMetadata, annotations: Annotations) -> Tensor:
    """The places that the annotated keypoints have in the weights.

    Prints which keypoints of the weights do not count.

    Returns:
        (K,) int64 an index into the keypoints of the weights for each one of the annotations.

    Raises:
        UserError: the annotations have no keypoints, or one that the weights lack.
    """
    model_names, data_names = metadata.keypoint_names, annotations.keypoint_names
    place = find(data_names, range(len(data_names)), model_names, range(len(model_names)), "the weights file")
    if not data_names:
        raise UserError(
            f"{annotations.path} declares no keypoints, and the weights predict {len(model_names)}: "
            "choose data with keypoints"
        )
    if -1 in place:
        first, known = data_names[place.index(-1)], ", ".join(model_names[:10])
        raise UserError(f"{annotations.path} has a keypoint {first!r}, which the weights lack; they have: {known}")
    if lost := [name for i, name in enumerate(model_names) if i not in place]:
        say(f"keypoints that {annotations.path} lacks, not counted: {', '.join(lost)}", sys.stderr)
    return torch.tensor(place)


def as_coco(metadata: ModelMetadata, annotations: Annotations) -> Tensor:
    """`by_name`; also prints what pycocotools makes of annotation id 0."""
    if (annotations.ids == 0).any():
        say(f"{annotations.path}: annotation id 0 counts as missed, as in pycocotools: number from 1", sys.stderr)
    return by_name(metadata, annotations)
