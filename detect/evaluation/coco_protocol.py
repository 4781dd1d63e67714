"""Average precision and recall by the COCO protocol (Lin et al. 2014, https://cocodataset.org/#detection-eval).

hotcoco matches; the precision and recall arrays are those of pycocotools, and the twelve numbers are summed from them
in pycocotools' own order, so they are equal to the bit.

Federated annotations have LVIS's protocol (Gupta et al. 2019, arXiv 1908.03195) and the numbers of the lvis package: of
an image the 300 best detections count; those of classes that it was not checked for are left out; of classes that have
more objects there than are annotated, detections that match none are neither right nor wrong. APr, APc and APf are of
rare, common and frequent classes.

Axes: I images, N detections, T 10 IoU thresholds, R 101 recall levels, C classes, S 4 sizes (all, small, medium,
large), M 3 limits of detections in an image and class (1, 10, 100).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.annotated_masks import annotated_masks, detected_masks, image_sizes, mask_areas
from detect.evaluation.coco_engine import GroundTruth, Predictions, measure
from detect.evaluation.oriented_boxes import annotated_oriented
from detect.evaluation.protocol import COCO, NUMBERS, Protocol

LVIS_LIMIT = 300  # detections of an image
LVIS_NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AR300", "ARs", "ARm", "ARl")


class Records(NamedTuple):
    """Detections as flat arrays, grouped by image: what ranks exchange.

    image_ids (I,) int64, each once; counts (I,) int64 detections in each image, which may be 0;
    boxes (N, 4) float64 x, y, width, height in pixels of the source image; scores (N,) float64; labels (N,) int64;
    masks (N,) object, the `counts` of compressed COCO RLE as bytes, or None; oriented (N, 5) float64 oriented boxes, or
    None. Detections with masks or oriented boxes are measured by them, others by their boxes.
    """

    image_ids: np.ndarray
    counts: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None
    oriented: np.ndarray | None = None

    @staticmethod
    def join(parts: list[Records]) -> Records:
        """All parts, one after the other; no detections where there are no parts."""
        none = np.zeros(0, np.int64)
        empty = Records(none, none, np.zeros((0, 4)), np.zeros(0), none)
        columns = {
            name: [part for part in every if part is not None]
            for name, every in zip(Records._fields, zip(empty, *parts, strict=True), strict=True)
        }
        return Records(**{name: np.concatenate(column) for name, column in columns.items() if column})

    def of_images(self, image_ids: np.ndarray) -> Records:
        """The detections of some images."""
        kept = np.isin(self.image_ids, image_ids)
        return Records(self.image_ids[kept], self.counts[kept], *self._columns(np.repeat(kept, self.counts)))

    def rows(self, kept: np.ndarray) -> Records:
        """The detections where `kept` (N,) is true; the images stay."""
        ends = np.concatenate([[0], np.cumsum(kept)])[np.concatenate([[0], np.cumsum(self.counts)])]
        return Records(self.image_ids, np.diff(ends), *self._columns(kept))

    def _columns(self, rows: np.ndarray) -> Iterator[Any]:
        return (None if one is None else one[rows] for one in self[2:])


class Summary(NamedTuple):
    """The metrics of a set of detections.

    numbers: the twelve COCO numbers, or LVIS's thirteen, -1 where there are no objects; per_class and per_class_ap50:
    AP and AP at IoU 0.5 by class name, None for a class without objects; precision (T, R, C, S, M) and recall
    (T, C, S, M).
    """

    numbers: dict[str, float]
    per_class: dict[str, float | None]
    per_class_ap50: dict[str, float | None]
    precision: np.ndarray
    recall: np.ndarray


def engine_inputs(annotations: Annotations, records: Records) -> tuple[int, int, GroundTruth, Predictions]:
    """The arguments of `measure`: numbers of images and classes, the objects, and the detections."""
    federation = annotations.federation
    if federation is not None and annotations.measured_as != "lvis":
        records = records.rows(judged(annotations, records)[0])
    by_id = np.argsort(annotations.image_ids)
    order = annotations.image_ids[by_id]  # the engine wants ids from 0; their order decides between ties
    image = np.repeat(np.searchsorted(order, annotations.image_ids), np.diff(annotations.starts))
    objects = GroundTruth(
        image, annotations.labels, annotations.boxes, annotations.areas, annotations.crowd, annotations.ids
    )
    image = np.repeat(np.searchsorted(order, records.image_ids), records.counts)
    rows = np.column_stack([image, records.boxes, records.scores, records.labels]).astype(np.float64)
    detections = Predictions(rows)
    if records.masks is not None:
        objects = objects._replace(masks=annotated_masks(annotations))
        masks = detected_masks(image_sizes(annotations)[by_id[image]], records.masks)
        detections = Predictions(rows, mask_areas(masks), masks)
    elif records.oriented is not None:
        own = annotated_oriented(annotations)
        objects = objects._replace(oriented=own, areas=own[:, 2] * own[:, 3])
        detections = Predictions(rows, records.oriented[:, 2] * records.oriented[:, 3], oriented=records.oriented)
    if federation is not None and annotations.measured_as == "lvis":
        names = {"neg_category_ids": federation.checked_in, "not_exhaustive_category_ids": federation.partial_in}
        told = [{name: labels(row).tolist() for name, labels in names.items()} for row in by_id.tolist()]
        objects = objects._replace(federated=told)
    return len(annotations), len(annotations.names), objects, detections


def judged(annotations: Annotations, records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Whether each detection (N,) counts if it is false, and if it is right: see `Federation.judged`."""
    if annotations.federation is None:
        every = np.ones(len(records.scores), bool)
        return every, every
    place = {image: row for row, image in enumerate(annotations.image_ids.tolist())}
    images = np.array([place[image] for image in records.image_ids.tolist()], np.int64)
    return annotations.federation.judged(np.repeat(images, records.counts), records.labels)


def summarize(annotations: Annotations, records: Records, protocol: Protocol = COCO) -> Summary:
    """Evaluate detections in the images of `annotations`. An image that `records` does not have has no detections."""
    return summary_of(annotations, *measure(*engine_inputs(annotations, records), protocol), protocol)


def summary_of(
    annotations: Annotations, precision: np.ndarray, recall: np.ndarray, protocol: Protocol = COCO
) -> Summary:
    """The metrics that precision (T, R, C, S, M) and recall (T, C, S, M) give."""
    arrays = {"precision": precision, "recall": recall}
    numbers = {
        name: mean_defined(arrays[which][threshold][..., size, limit])
        for name, (which, threshold, size, limit) in protocol.numbers().items()
    }
    if annotations.federation is not None and annotations.measured_as == "lvis":
        numbers |= {"AR300": mean_defined(recall[..., 0, -1])}
        numbers = _lvis_numbers(numbers, precision[..., 0, -1], annotations.federation.frequency)
    best, half = precision[..., 0, -1], protocol.at(0.5)
    return Summary(
        {name: -1.0 if value is None else value for name, value in numbers.items()},
        {name: mean_defined(best[:, :, label]) for label, name in enumerate(annotations.names)},
        {name: mean_defined(best[half, :, label]) for label, name in enumerate(annotations.names)},
        precision,
        recall,
    )


def number_names(result: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names of the COCO or LVIS numbers that an evaluation's result has with this prefix."""
    known = (*LVIS_NUMBERS[:9], *NUMBERS, *LVIS_NUMBERS)
    others = [name for name in result if re.fullmatch(rf"{prefix}A[PR](\d+|_size\d+)?", name)]
    return [
        name for name in dict.fromkeys((*known, *(o.removeprefix(prefix) for o in others))) if prefix + name in result
    ]


def _lvis_numbers(
    numbers: dict[str, float | None], precision: np.ndarray, frequency: Sequence[str] | None
) -> dict[str, float | None]:
    """LVIS's numbers, of COCO's, of precision (T, R, C) and of the frequency "r", "c" or "f" of each class (C,)."""
    found = dict(numbers)
    for letter in "rcf" if frequency else "":
        found[f"AP{letter}"] = mean_defined(precision[:, :, [one == letter for one in frequency or ()]])
    return {name: found[name] for name in LVIS_NUMBERS if name in found}


def mean_defined(values: np.ndarray) -> float | None:
    """The mean of the values that are defined (not -1); None where none is."""
    defined = values[values > -1]
    return float(np.mean(defined)) if len(defined) else None
