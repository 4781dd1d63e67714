"""How well one object an image is localized: its presence, its class and its box.

Axes: I images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from anchors.boxes import iou_aligned, xywh_to_xyxy
from detect.evaluation.coco import CocoEvaluator

PRESENT = 0.5  # score above which an object counts as predicted
HIT = 0.5  # IoU from which a box is right (ILSVRC's localization task)
NUMBERS = ("localized", "presence", "class_accuracy", "iou", "iou50")


class Localized(NamedTuple):
    """Of each image (I,): whether it has an object, the predicted presence, whether the class is right, and the IoU.

    `localized`: whether all is right, as `LocalizationEvaluator.result` says.
    """

    has_object: np.ndarray
    score: np.ndarray
    right: np.ndarray
    iou: np.ndarray
    localized: np.ndarray


class LocalizationEvaluator(CocoEvaluator):
    """Compares detections, at most one an image, with the largest object of each image, crowd regions aside."""

    def result(self) -> dict[str, Any]:
        """Shares of images, 0 to 1, -1 where nothing was evaluated.

        presence        images whose score is above 0.5 where there is an object, and not above it where there is none
        class_accuracy  of the images with an object, those whose class is right, whatever the score
        iou, iou50      over these images, the mean IoU of the box, and the share with an IoU of at least 0.5
        localized       images where all is right: no object and none predicted, or presence, class and box (IoU 0.5)
        """
        if not len(self.records().image_ids):
            return dict.fromkeys(NUMBERS, -1.0)
        found = self.per_image()
        return {
            "localized": float(found.localized.mean()),
            "presence": float(((found.score > PRESENT) == found.has_object).mean()),
            "class_accuracy": _share(found.right[found.has_object]),
            "iou": _share(found.iou[found.has_object]),
            "iou50": _share(found.iou[found.has_object] >= HIT),
            "images": len(found.has_object),
            "objects": int(found.has_object.sum()),
        }

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        row = {image: i for i, image in enumerate(self.annotations.image_ids.tolist())}
        columns = weights[:, [row[image] for image in self.records().image_ids.tolist()]].astype(np.float64)
        found = self.per_image()
        with np.errstate(invalid="ignore"):
            whole, some = columns.sum(1), columns @ found.has_object
            return {
                "localized": columns @ found.localized / whole,
                "presence": columns @ ((found.score > PRESENT) == found.has_object) / whole,
                "class_accuracy": columns @ (found.right & found.has_object) / some,
                "iou": columns @ (found.iou * found.has_object) / some,
                "iou50": columns @ ((found.iou >= HIT) & found.has_object) / some,
            }

    def per_image(self) -> Localized:
        """What was predicted for each image, in the order of `records`."""
        records = self.records()
        boxes, labels = self._largest_objects(records.image_ids)
        first = np.cumsum(records.counts) - records.counts
        predicted = records.counts > 0
        rows = first[predicted]
        score, predicted_labels, predicted_boxes = (
            np.zeros(len(predicted)),
            np.full(len(predicted), -1),
            np.zeros((len(predicted), 4)),
        )
        score[predicted], predicted_labels[predicted], predicted_boxes[predicted] = (
            records.scores[rows],
            records.labels[rows],
            records.boxes[rows],
        )
        overlap = _iou(predicted_boxes, boxes)
        has_object, present, right = labels >= 0, score > PRESENT, predicted_labels == labels
        localized = np.where(has_object, present & right & (overlap >= HIT), ~present)
        return Localized(has_object, score, right, overlap, localized)

    def _largest_objects(self, image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box (I, 4) x, y, width, height and label (I,) of the largest object of each image; label -1 for none."""
        annotations = self.annotations
        index = {image: i for i, image in enumerate(annotations.image_ids.tolist())}
        boxes, labels = np.zeros((len(image_ids), 4)), np.full(len(image_ids), -1)
        for row, image in enumerate(image_ids.tolist()):
            i = index[image]
            some = np.arange(annotations.starts[i], annotations.starts[i + 1])
            some = some[~annotations.crowd[some]]
            if len(some):
                best = some[annotations.boxes[some, 2:].prod(1).argmax()]
                boxes[row], labels[row] = annotations.boxes[best], annotations.labels[best]
        return boxes, labels


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (I,) of boxes (I, 4) x, y, width, height, pair by pair."""
    return iou_aligned(xywh_to_xyxy(torch.from_numpy(a)), xywh_to_xyxy(torch.from_numpy(b))).numpy()


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else -1.0


def localization_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `LocalizationEvaluator.result`."""
    yield "  ".join(f"{name} {result[name]:.3f}" for name in NUMBERS)
