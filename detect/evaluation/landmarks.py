"""How far landmarks are from their annotations: normalized mean error, failure rate, cumulative error curve.

Axes: N objects, K points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detect.data.annotations import Annotations
from detect.data.datasets.landmarks import Instances
from detect.types import Detections
from detect.utils.atomic_io import replace_file

if TYPE_CHECKING:
    from detect.models.base import ModelMetadata

FAILED = 0.08  # normalized error above which an object is a failure (300-W, Sagonas et al., 2016)
CURVE = np.linspace(0, 0.15, 151)
NUMBERS = ("nme", "failures", "auc")


class Shapes(NamedTuple):
    """What ranks exchange: ids (N,) int64 of objects, keypoints (N, K, 3) float64, scores (N,) float64."""

    ids: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray


class LandmarkEvaluator:
    """Compares landmarks with the annotated ones; each object comes once, by its annotation id, over all ranks.

    The error of an object is the mean distance of its labelled points from their annotations, divided by a length: the
    distance of the outer eye corners where keypoints have such names (`eye_corners`) and both are labelled, else the
    square root of the area of the box.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.instances = Instances.of(annotations)
        self.row = {one: i for i, one in enumerate(self.instances.ids.tolist())}
        self.lengths = lengths(self.instances)
        self._seen: set[int] = set()
        self._parts: list[Shapes] = []

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Take the landmarks of some objects.

        Args:
            image_ids: annotation ids of the objects.
            detections: one row with keypoints for each, in pixels of the source image.

        Raises:
            ValueError: an object has no such row, is not annotated, or came before.
        """
        if any(len(one) != 1 or one.keypoints is None for one in detections) or len(detections) != len(image_ids):
            raise ValueError(f"{len(image_ids)} instances need one detection with keypoints each")
        k = self.instances.keypoints.shape[1]
        points = [one.keypoints.double().cpu().numpy() for one in detections if one.keypoints is not None]
        shapes = np.concatenate([np.zeros((0, k, 3)), *points])
        scores = torch.cat([torch.zeros(0), *(one.scores.cpu() for one in detections)]).double().numpy()
        self.extend(Shapes(np.array(image_ids, dtype=np.int64), shapes, scores))

    def records(self) -> Shapes:
        """Everything taken so far, for another rank's `extend`."""
        none = Shapes(np.zeros(0, np.int64), np.zeros((0, self.instances.keypoints.shape[1], 3)), np.zeros(0))
        self._parts = [Shapes(*(np.concatenate(column) for column in zip(none, *self._parts, strict=True)))]
        return self._parts[0]

    def extend(self, records: Shapes) -> None:
        """Take what another evaluator of the same annotations has collected.

        Raises:
            ValueError: an object is not annotated or came before, or a number is not finite.
        """
        for one, points in zip(records.ids.tolist(), records.keypoints, strict=True):
            if one not in self.row or one in self._seen:
                raise ValueError(f"annotation id {one} {'came twice' if one in self._seen else 'is not known'}")
            if not np.isfinite(points).all():
                raise ValueError(f"points of annotation id {one} are not finite")
            self._seen.add(one)
        self._parts.append(records)

    def result(self) -> dict[str, Any]:
        """The metrics, -1 where nothing was evaluated.

        Returns:
            `nme`: mean error of the objects; `failures`: share of them with an error above 0.08; `auc`: area under the
            cumulative error curve from 0 to 0.08, as a share; `curve`: share of objects whose error is at most each of
            `errors`; `per_point`: mean error of each keypoint, None where it is never labelled; `normalizer`: the
            length that errors are divided by.
        """
        ids, _, _ = self.records()
        if not len(ids):
            return dict.fromkeys(NUMBERS, -1.0)
        distance, labelled = self._distances()
        error = self.errors()
        each, counts = np.where(labelled, distance, 0).sum(0), labelled.sum(0)
        names = self.instances.annotations.keypoint_names
        corners = eye_corners(names) is not None
        return {
            "nme": float(error.mean()),
            "failures": float((error > FAILED).mean()),
            "auc": float((1 - error / FAILED).clip(0).mean()),
            "instances": len(ids),
            "normalizer": "distance of the outer eye corners" if corners else "square root of the area of the box",
            "errors": CURVE.round(4).tolist(),
            "curve": (error[:, None] <= CURVE).mean(0).tolist(),
            "per_point": {n: float(e / c) if c else None for n, e, c in zip(names, each, counts, strict=True)},
        }

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        rows = np.array([self.row[one] for one in self.records().ids.tolist()], np.int64)
        columns, error = weights[:, self.instances.images[rows]].astype(np.float64), self.errors()
        distance, labelled = self._distances()
        names = self.instances.annotations.keypoint_names
        with np.errstate(invalid="ignore"):
            points = (columns @ np.where(labelled, distance, 0) / (columns @ labelled)).T
            kinds = {"nme": error, "failures": error > FAILED, "auc": (1 - error / FAILED).clip(0)}
            found = {name: columns @ values / columns.sum(1) for name, values in kinds.items()}
        return {**found, "per_point": dict(zip(names, points, strict=True))}

    def errors(self) -> np.ndarray:
        """The error of each object (N,), in the order of `records`."""
        distance, labelled = self._distances()
        error: np.ndarray = np.where(labelled, distance, 0).sum(1) / labelled.sum(1)
        return error

    def _distances(self) -> tuple[np.ndarray, np.ndarray]:
        """The normalized distance of each keypoint from its annotation (N, K), and whether it is labelled (N, K)."""
        ids, points, _ = self.records()
        rows = np.array([self.row[one] for one in ids.tolist()])
        annotated, length = self.instances.keypoints[rows], self.lengths[rows]
        distance = np.hypot(*np.moveaxis(points[..., :2] - annotated[..., :2], -1, 0)) / length[:, None]
        return distance, annotated[..., 2] > 0

    def write(self, path: Path) -> None:
        """Write the landmarks as COCO results: image_id, category_id, keypoints and score."""
        annotations, records = self.instances.annotations, []
        for one, points, score in zip(*self.records(), strict=True):
            row = self.row[int(one)]
            record: dict[str, Any] = {"image_id": int(annotations.image_ids[self.instances.images[row]])}
            record["category_id"] = int(annotations.category_ids[self.instances.labels[row]])
            records.append(record | {"keypoints": points.ravel().tolist(), "score": float(score)})
        replace_file(path, lambda part: part.write_text(json.dumps(records, indent=0) + "\n", encoding="utf-8"))


def eye_corners(keypoints: Sequence[str]) -> tuple[int, int] | None:
    """Indices of the keypoints named with the words left, eye, outer and right, eye, outer; None if one is missing."""
    words = [set(re.split(r"[_\- .]", name.lower())) for name in keypoints]
    found = [[i for i, w in enumerate(words) if {side, "eye", "outer"} <= w] for side in ("left", "right")]
    return (found[0][0], found[1][0]) if all(len(one) == 1 for one in found) else None


def lengths(instances: Instances) -> np.ndarray:
    """(N,) the length that the error of each object is divided by, in pixels: see `LandmarkEvaluator`."""
    length = np.sqrt((instances.boxes[:, 2:] - instances.boxes[:, :2]).prod(1))
    corners = eye_corners(instances.annotations.keypoint_names)
    if corners is None:
        return length
    left, right = (instances.keypoints[:, i] for i in corners)
    apart = np.hypot(left[:, 0] - right[:, 0], left[:, 1] - right[:, 1])
    known = (left[:, 2] > 0) & (right[:, 2] > 0) & (apart > 0)
    return np.where(known, apart, length)


def one_class(metadata: ModelMetadata, annotations: Annotations) -> Tensor:
    """Landmarks have no classes: label 0 for all."""
    return torch.zeros(len(metadata.names), dtype=torch.int64)


def landmark_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `LandmarkEvaluator.result`."""
    yield "  ".join(f"{name} {result[name]:.4f}" for name in NUMBERS)
    if "per_point" not in result:
        return
    yield f"  errors are divided by the {result['normalizer']}; a failure is above {FAILED:g}"
    known = [(error, name) for name, error in result["per_point"].items() if error is not None]
    for error, name in sorted(known, reverse=True)[:5]:
        yield f"  {name:<24} {error:.4f}"
