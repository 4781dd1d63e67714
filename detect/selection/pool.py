"""What the criteria of `detect next` know: the predictions, views and features of unlabelled images.

Axes: I unlabelled images, L labelled images, N predictions of an image, M objects among them, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from anchors.boxes import iou
from anchors.oriented import oriented_iou
from detect.types import Classification, Detections

SAME_PLACE = 0.5  # IoU from which two predictions are of one object
PerImage = Literal["sum", "mean", "max"]


class Objects(NamedTuple):
    """The objects of an image. best (M,): index of the prediction with the highest score; scores (M, C) of the classes,
    0 where a class was not predicted; exclusive: whether the scores of an object are probabilities that add up to 1."""

    best: np.ndarray
    scores: np.ndarray
    exclusive: bool


@dataclass(frozen=True)
class Labelled:
    """The labelled images: their names, their features (L, D), and how many objects of each class (C,) they have."""

    names: Sequence[str]
    features: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Pool:
    """The unlabelled images.

    Attributes:
        names: of the images.
        results: `Detections` or `Classification` of each image, scores down to a low threshold.
        classes: names of the classes.
        views: the results of the augmented views of each image, in pixels of the image; empty where no criterion asks.
        features: (I, D); D is 0 where no criterion asks.
        labelled: the images that are labelled already; None where they are not known.
        per_image: how the values of the objects of an image become one value.
    """

    names: Sequence[str]
    results: Sequence[Any]
    classes: Sequence[str]
    views: Sequence[Sequence[Any]] = ()
    features: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    labelled: Labelled | None = None
    per_image: PerImage = "sum"

    def __len__(self) -> int:
        return len(self.names)

    def objects(self, image: int) -> Objects:
        """The objects predicted in an image."""
        return objects_of(self.results[image], len(self.classes))

    def of_image(self, values: np.ndarray) -> float:
        """The value of an image, from those of its objects (M,); 0 without objects."""
        if not len(values) or self.per_image == "sum":
            return float(values.sum())
        return float(values.mean() if self.per_image == "mean" else values.max())


def objects_of(result: Any, classes: int) -> Objects:
    """The objects of a result.

    Predictions of one place are one object, whatever their classes: a king of 0.5 and a queen of 0.4 are one card that
    the model is unsure of. The image of a classifier is one object; classes beyond those that the result names share
    the rest of the probability.

    Args:
        result: `Detections`, or `Classification`.
        classes: how many classes there are.
    """
    labels, given = result.labels.numpy(), result.scores.double().numpy()
    if isinstance(result, Classification):
        scores = np.full((1, classes), max(0.0, 1 - given.sum()) / max(1, classes - len(labels)))
        scores[0, labels] = given
        return Objects(np.zeros(1, np.int64), scores, True)
    best, place = places(result)
    scores = np.zeros((len(best), classes))
    np.maximum.at(scores, (place, labels), given)
    return Objects(best, scores, False)


def places(found: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Group detections by place: the best (M,) of each place, best first, and the place (N,) of each detection.

    The best detection without a place opens one, and takes all others there that overlap it by `SAME_PLACE`.
    """
    overlap, order = overlaps(found, found), np.argsort(-found.scores.numpy(), kind="stable")
    place, best = np.full(len(found), -1), list[int]()
    for i in order.tolist():
        if place[i] < 0:
            place[(place < 0) & (overlap[i] >= SAME_PLACE)] = len(best)
            place[i] = len(best)  # a box without area overlaps nothing, itself neither
            best.append(i)
    return np.array(best, np.int64), place


def overlaps(a: Detections, b: Detections) -> np.ndarray:
    """The IoU of the boxes of both, oriented boxes where they have such."""
    if a.oriented is not None and b.oriented is not None:
        return _array(oriented_iou(a.oriented, b.oriented))
    return _array(iou(a.boxes, b.boxes))


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.double().numpy()
    return array
