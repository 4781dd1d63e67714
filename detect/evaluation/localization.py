"""How well one object an image is localized: whether it is there, of which class, and where.

Axes: I images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from anchors.boxes import iou_aligned, xywh_to_xyxy
from detect.evaluation.coco import CocoEvaluator

PRESENT = 0.5  # the score above which an object is said to be there
HIT = 0.5  # the IoU from which a box is right (ILSVRC's localization task)
NUMBERS = ("localized", "presence", "class_accuracy", "iou", "iou50")


class LocalizationEvaluator(CocoEvaluator):
    """Detections, at most one an image, against the largest object of each image of a store, crowd regions aside."""

    def result(self) -> dict[str, Any]:
        """Shares from 0 to 1, -1 where nothing was judged.

        presence        images where a score above 0.5 rightly says that there is an object, or rightly does not
        class_accuracy  of the images with an object those whose class is right, whatever the score
        iou, iou50      over these images, the mean IoU of the box, and the share with an IoU of at least 0.5
        localized       images where all is right: no object and none said, or presence, class and box (IoU 0.5)
        """
        found = self.records()
        if not len(found.image_ids):
            return dict.fromkeys(NUMBERS, -1.0)
        boxes, labels = self._truth(found.image_ids)
        first = np.cumsum(found.counts) - found.counts
        said = found.counts > 0
        rows = first[said]
        score, guess, place = np.zeros(len(said)), np.full(len(said), -1), np.zeros((len(said), 4))
        score[said], guess[said], place[said] = found.scores[rows], found.labels[rows], found.boxes[rows]
        overlap = _iou(place, boxes)
        there, present = labels >= 0, score > PRESENT
        right, hit = guess == labels, overlap >= HIT
        localized = np.where(there, present & right & hit, ~present)
        return {
            "localized": float(localized.mean()),
            "presence": float((present == there).mean()),
            "class_accuracy": _share(right[there]),
            "iou": _share(overlap[there]),
            "iou50": _share(hit[there]),
            "images": len(there),
            "objects": int(there.sum()),
        }

    def _truth(self, image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box (I, 4) x, y, width, height and label (I,) of the largest object of these images; label -1 without."""
        store = self.store
        index = {image: i for i, image in enumerate(store.image_ids.tolist())}
        boxes, labels = np.zeros((len(image_ids), 4)), np.full(len(image_ids), -1)
        for row, image in enumerate(image_ids.tolist()):
            i = index[image]
            some = np.arange(store.starts[i], store.starts[i + 1])
            some = some[~store.crowd[some]]
            if len(some):
                best = some[store.boxes[some, 2:].prod(1).argmax()]
                boxes[row], labels[row] = store.boxes[best], store.labels[best]
        return boxes, labels


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (I,) of boxes (I, 4) x, y, width, height and as many others."""
    return iou_aligned(xywh_to_xyxy(torch.from_numpy(a)), xywh_to_xyxy(torch.from_numpy(b))).numpy()


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else -1.0


def localization_lines(result: dict[str, Any]) -> Iterator[str]:
    """What `LocalizationEvaluator.result` says, line by line."""
    yield "  ".join(f"{name} {result[name]:.3f}" for name in NUMBERS)
