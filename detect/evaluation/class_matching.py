"""Whether weights can be judged by a store, and which of its classes theirs are."""

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


def labels_of(metadata: ModelMetadata, store: Annotations) -> Tensor:
    """For each class of the weights its label in the store (C,), by name; -1 for classes that the store lacks.

    Says which classes of the store the weights lack. Raises UserError where no class is in both, or where the weights
    have several classes of one name that their ids do not tell apart.
    """
    ids = store.category_ids.tolist()
    place = torch.tensor(find(store.names, ids, metadata.names, metadata.category_ids, "the weights file"))
    labels = torch.full((len(metadata.names),), -1)
    labels[place[place >= 0]] = torch.where(place >= 0)[0]
    if not (labels >= 0).any():
        raise UserError(f"{store.path} has none of the classes that the weights know: {', '.join(metadata.names[:10])}")
    if missed := sorted(name for name, i in zip(store.names, place.tolist(), strict=True) if i < 0):
        say(f"classes that the weights do not know, always wrong: {', '.join(missed)}", sys.stderr)
    return labels


def by_name(metadata: ModelMetadata, store: Annotations) -> Tensor:
    """`labels_of`, where what is of other classes than the store's does not count; says which these are."""
    labels = labels_of(metadata, store)
    names = distinct(metadata.names, metadata.category_ids)
    if lost := [name for name, label in zip(names, labels.tolist(), strict=True) if label < 0]:
        say(f"classes that {store.path} lacks, not counted: {', '.join(lost)}", sys.stderr)
    return labels


def points_by_name(metadata: ModelMetadata, store: Annotations) -> Tensor:
    """For each keypoint of the store its place among those of the weights (K,), by name.

    Says which keypoints of the weights do not count. Raises UserError where the weights lack one of the store's.
    """
    mine, theirs = metadata.keypoint_names, store.keypoint_names
    place = find(theirs, range(len(theirs)), mine, range(len(mine)), "the weights file")
    if not theirs:
        raise UserError(f"{store.path} declares no keypoints, and the weights find {len(mine)}: there is no truth")
    if -1 in place:
        first, known = theirs[place.index(-1)], ", ".join(mine[:10])
        raise UserError(f"{store.path} has a keypoint {first!r}, which the weights do not know; they know: {known}")
    if lost := [name for i, name in enumerate(mine) if i not in place]:
        say(f"keypoints that {store.path} lacks, not counted: {', '.join(lost)}", sys.stderr)
    return torch.tensor(place)


def as_coco(metadata: ModelMetadata, store: Annotations) -> Tensor:
    """`by_name`, with a word on what pycocotools makes of an annotation's id 0."""
    if (store.ids == 0).any():
        say(f"{store.path}: annotation id 0 counts as missed, as in pycocotools: number from 1", sys.stderr)
    return by_name(metadata, store)
