"""How well the class of each pixel is predicted: IoU of the classes, accuracy, and the confusion matrix.

Counts are exact integers over all pixels of all images, at the resolution of the source.
Axes: I images, K classes with the background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detect.data.annotations import Annotations
from detect.data.pixel_labels import image_labels
from detect.evaluation.bootstrap import mean_known
from detect.evaluation.class_matching import labels_of
from detect.semantic import IGNORED, SemanticMap, with_background

if TYPE_CHECKING:
    from detect.models.base import ModelMetadata

NUMBERS = ("mIoU", "pixel_accuracy", "mean_accuracy")


class PixelCounts(NamedTuple):
    """What ranks exchange: image ids (I,) int64; the mIoU of each image (I,) float64; and pixels (K, K) int64.

    `confusion` counts pixels by true class (rows) and predicted class (columns); `shares` (3, I, K) int64 those of each
    image by true class, by predicted class, and where both agree.
    """

    ids: np.ndarray
    scores: np.ndarray
    confusion: np.ndarray
    shares: np.ndarray

    @staticmethod
    def of(scores: np.ndarray, confusion: np.ndarray, *image_ids: int) -> PixelCounts:
        """The counts of no image, or of one."""
        shares = np.stack([confusion.sum(1), confusion.sum(0), np.diag(confusion)])[:, None]
        return PixelCounts(np.array(image_ids, np.int64), scores, confusion, shares[:, : len(image_ids)])


class SemanticEvaluator:
    """Compares class maps with annotated outlines, pixel by pixel; each image comes once, over all ranks.

    Args:
        annotations: the ground truth, with outlines.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.names = with_background(annotations.names)
        self._places = {image: i for i, image in enumerate(annotations.image_ids.tolist())}
        self._seen: set[int] = set()
        classes = len(self.names)
        self._parts = [PixelCounts.of(np.zeros(0), np.zeros((classes, classes), np.int64))]

    def update(self, image_ids: Sequence[int], maps: Sequence[SemanticMap]) -> None:
        """Take the class maps of some images.

        Args:
            image_ids: ids of the images, as in the annotations.
            maps: the map of each, in pixels of the source image, with labels of the annotations.

        Raises:
            ValueError: an image is not annotated or came before.
        """
        for image_id, one in zip(image_ids, maps, strict=True):
            if image_id not in self._places:
                raise ValueError(f"image id {image_id} is not in {self.annotations.path}")
            confusion = self.confusion_of(self._places[image_id], one)
            score = float(np.mean(present_iou(confusion))) if confusion.any() else 1.0
            self.extend(PixelCounts.of(np.array([score]), confusion, image_id))

    def confusion_of(self, index: int, found: SemanticMap) -> np.ndarray:
        """The pixels of image `index` by true and by predicted class, (K, K) int64; ignored pixels do not count."""
        predicted, classes = found.labels.numpy(), len(self.names)
        truth = image_labels(self.annotations, index, predicted.shape)
        counted = truth != IGNORED
        pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def records(self) -> PixelCounts:
        """Everything taken so far, for another rank's `extend`."""
        ids, scores, confusions, shares = zip(*self._parts, strict=True)
        joined = np.concatenate(ids), np.concatenate(scores), np.sum(confusions, axis=0), np.concatenate(shares, axis=1)
        self._parts = [PixelCounts(*joined)]
        return self._parts[0]

    def extend(self, records: PixelCounts) -> None:
        """Take what another evaluator of the same annotations has collected. Raises ValueError as `update` does."""
        for image_id in records.ids.tolist():
            if image_id in self._seen:
                raise ValueError(f"image id {image_id} was evaluated twice")
            self._seen.add(image_id)
        self._parts.append(records)
        if len(self._parts) > 256:
            self.records()

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        records = self.records()
        columns = weights[:, [self._places[one] for one in records.ids.tolist()]].astype(np.float64)
        pixels, predicted, hits = (columns @ counts for counts in records.shares)  # (R, K), exact below 2^53
        with np.errstate(invalid="ignore"):
            known = np.where(pixels > 0, 1.0, np.nan)
            accuracy, iou = hits / pixels, known * hits / (pixels + predicted - hits)
            found = {"pixel_accuracy": hits.sum(1) / pixels.sum(1)}
        found |= {"mIoU": mean_known(iou.T), "mean_accuracy": mean_known(accuracy.T)}
        rows = zip(self.names, iou.T, accuracy.T, strict=True)
        return {**found, "per_class": {name: {"IoU": overlap, "accuracy": share} for name, overlap, share in rows}}

    def result(self) -> dict[str, Any]:
        """The metrics, shares of 0 to 1, -1 where no pixel was evaluated.

        Returns:
            `mIoU`, the mean of the classes that the annotations have, the background among them; `pixel_accuracy`;
            `mean_accuracy` of these classes; `per_class`: name -> IoU, accuracy (None where the class does not occur)
            and pixels; `confusion`: names, and counts (K, K) with a row for each true class.
        """
        confusion = self.records().confusion
        pixels, hits = confusion.sum(1), np.diag(confusion)
        if not pixels.any():
            return dict.fromkeys(NUMBERS, -1.0) | {"per_class": {}, "confusion": {}}
        there = pixels > 0
        accuracy = hits / np.maximum(pixels, 1)
        iou = hits / np.maximum(pixels + confusion.sum(0) - hits, 1)
        rows = zip(self.names, iou.tolist(), accuracy.tolist(), pixels.tolist(), strict=True)
        return {
            "mIoU": float(iou[there].mean()),
            "pixel_accuracy": float(hits.sum() / pixels.sum()),
            "mean_accuracy": float(accuracy[there].mean()),
            "per_class": {
                name: {"IoU": overlap if n else None, "accuracy": share if n else None, "pixels": n}
                for name, overlap, share, n in rows
            },
            "confusion": {"names": self.names, "counts": confusion.tolist()},
        }


def present_iou(confusion: np.ndarray) -> np.ndarray:
    """The IoU of each class that the truth of a confusion matrix (K, K) has."""
    pixels, hits = confusion.sum(1), np.diag(confusion)
    overlap: np.ndarray = hits / np.maximum(pixels + confusion.sum(0) - hits, 1)
    return overlap[pixels > 0]


def pixel_classes(metadata: ModelMetadata, annotations: Annotations) -> Tensor:
    """The labels that the classes of the weights, the background among them, have in the annotations, (K,) int64.

    Pixels of classes that are not annotated count as background: that is what the annotations say of them.

    Raises:
        UserError: the weights and the annotations have no class in common.
    """
    found, background = labels_of(metadata, annotations), len(annotations.names)
    return torch.cat((torch.where(found >= 0, found, background), torch.tensor([background])))


def semantic_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `SemanticEvaluator.result`."""
    yield "  ".join(f"{name} {result[name]:.3f}" for name in NUMBERS)
    for name, row in result["per_class"].items():
        if row["pixels"]:
            yield f"  {name:<24} IoU {row['IoU']:.3f}  accuracy {row['accuracy']:.3f}  of {row['pixels']:,} pixels"
