"""Average precision of oriented boxes as DOTA measures it (Xia et al. 2018, arXiv 1711.10398): PASCAL VOC's rules.

Each detection of a class looks at the object of its image that it overlaps most. If their IoU exceeds 0.5, the first
detection of an object, by descending score over all images, is right and the others are wrong. Detections of objects
that are too difficult to count, or that are crowd regions, are neither. There is no limit of detections.

Axes: N detections, G objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.bootstrap import mean_known
from detect.evaluation.coco_protocol import Records
from detect.evaluation.oriented_boxes import annotated_oriented, overlapping_pairs
from detect.evaluation.resampled_ap import ClassMatches, average_precision

IOU = 0.5
RECALLS = np.arange(0, 1.1, 0.1)  # VOC 2007's eleven, rounded as in DOTA's own program


class DotaSummary(NamedTuple):
    """AP50 by class name, None for a class without objects: by VOC 2007's eleven points, and by area."""

    eleven_points: dict[str, float | None]
    area: dict[str, float | None]

    @property
    def numbers(self) -> dict[str, float]:
        """The means over the classes that have objects, -1 where none has."""
        kinds = {"DOTA_AP50": self.eleven_points, "DOTA_AP50_area": self.area}
        defined = {name: [v for v in values.values() if v is not None] for name, values in kinds.items()}
        return {name: float(np.mean(values)) if values else -1.0 for name, values in defined.items()}


def dota_summary(annotations: Annotations, records: Records) -> DotaSummary:
    """Evaluate detections that have oriented boxes. An image that `records` does not have has no detections."""
    eleven: dict[str, float | None] = {}
    area: dict[str, float | None] = {}
    for name, one in zip(annotations.names, dota_matches(annotations, records), strict=True):
        objects = len(one.objects)
        curve = precision_recall(one.right[0][one.counted[0]], objects) if objects else None
        eleven[name] = None if curve is None else eleven_point_ap(*curve)
        area[name] = None if curve is None else area_ap(*curve)
    return DotaSummary(eleven, area)


def dota_matches(annotations: Annotations, records: Records) -> list[ClassMatches]:
    """What the detections of each class match."""
    boxes = records.oriented if records.oriented is not None else np.zeros((0, 5))
    classes, targets = len(annotations.names), annotated_oriented(annotations)
    row_of = {image: row for row, image in enumerate(annotations.image_ids.tolist())}
    image = np.repeat([row_of[one] for one in records.image_ids.tolist()], records.counts).astype(np.int64)
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    order = np.lexsort((np.repeat(records.image_ids, records.counts), -records.scores))  # ties: by image, as COCO's
    groups, target_groups = (image * classes + records.labels)[order], owner * classes + annotations.labels
    matched = _best(len(boxes), *overlapping_pairs(boxes[order], groups, targets, target_groups, IOU))
    uncounted = annotations.crowd if annotations.difficult is None else annotations.crowd | annotations.difficult
    difficult = np.append(uncounted, False)[matched]
    first = np.zeros(len(boxes), bool)
    first[np.unique(matched, return_index=True)[1]] = True
    right, labels = (matched >= 0) & ~difficult & first, records.labels[order]
    found = []
    for label in range(classes):
        some, objects = labels == label, owner[~uncounted & (annotations.labels == label)]
        columns = right[some][None], ~difficult[some][None]
        found.append(ClassMatches(image[order][some], np.zeros(int(some.sum()), np.int64), *columns, objects))
    return found


def resampled_dota(matches: Sequence[ClassMatches], names: Sequence[str], weights: np.ndarray) -> dict[str, Any]:
    """`DotaSummary.numbers` (R,) and `DOTA_per_class` of resamples whose images count as `weights` (R, I) says."""
    columns = np.ascontiguousarray(weights.T)
    eleven = np.stack([average_precision(one, columns, RECALLS)[0] for one in matches])
    area = np.stack([average_precision(one, columns, None)[0] for one in matches])
    numbers = {"DOTA_AP50": mean_known(eleven), "DOTA_AP50_area": mean_known(area)}
    return {**numbers, "DOTA_per_class": dict(zip(names, eleven, strict=True))}


def _best(count: int, rows: np.ndarray, targets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The target (count,) that each row overlaps most, the first among equals; -1 where it overlaps none."""
    order = np.lexsort((targets, -values, rows))
    rows, place = np.unique(rows[order], return_index=True)
    found = np.full(count, -1)
    found[rows] = targets[order][place]
    return found


def precision_recall(right: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (N,) after each detection (N,) bool, the best first, of a class with so many objects."""
    hits = right.cumsum()
    return hits / np.arange(1, len(right) + 1), hits / objects


def eleven_point_ap(precision: np.ndarray, recall: np.ndarray) -> float:
    """The mean over eleven recalls of the highest precision (N,) at that recall (N,) or above."""
    return float(np.mean([precision[recall >= level].max(initial=0) for level in RECALLS]))


def area_ap(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area under the curve of the highest precision (N,) at each recall (N,) or above."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * best).sum())
