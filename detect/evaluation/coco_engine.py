"""The engine that matches detections with objects, and the one rule of pycocotools that it lacks.

Axes as in `coco_protocol`: N rows, T IoU thresholds, R recall levels, C classes, S sizes, M limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import hotcoco
import numpy as np

from detect.evaluation.protocol import COCO, Protocol


class GroundTruth(NamedTuple):
    """Annotated objects: image and label (N,) int64 from 0, boxes (N, 4) float64 xywh, areas, crowd and ids (N,).

    masks: COCO RLE dictionaries (N,), or oriented boxes (N, 5), where these are matched rather than boxes; federated:
    for each image the labels in LVIS's `neg_category_ids` and `not_exhaustive_category_ids`, where LVIS's rules hold.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ids: np.ndarray
    masks: np.ndarray | None = None
    oriented: np.ndarray | None = None
    federated: Sequence[dict] | None = None

    def rows(self, at: np.ndarray) -> GroundTruth:
        """The objects at an index or mask, of the same images."""
        columns = {name: column[at] for name, column in self._asdict().items() if isinstance(column, np.ndarray)}
        return GroundTruth(**columns, federated=self.federated)


class Predictions(NamedTuple):
    """Detections: rows (N, 7) image, x, y, width, height, score, label.

    areas (N,): default those of the boxes; masks and oriented as in `GroundTruth`, with which areas are given.
    """

    rows: np.ndarray
    areas: np.ndarray | None = None
    masks: np.ndarray | None = None
    oriented: np.ndarray | None = None

    def at(self, index: np.ndarray) -> Predictions:
        """The detections at an index or mask."""
        columns = {name: column[index] for name, column in self._asdict().items() if column is not None}
        return Predictions(**columns)


AT_ONCE = 250  # images whose matches lie in memory together: a megabyte or two each
Side = TypeVar("Side", GroundTruth, Predictions)


def measure(
    images: int, classes: int, objects: GroundTruth, detections: Predictions, protocol: Protocol = COCO
) -> tuple[np.ndarray, np.ndarray]:
    """The precision and recall arrays of pycocotools, of boxes, or of masks or oriented boxes if both sides have any.

    Args:
        images: number of images.
        classes: number of classes.
        objects: the annotated objects.
        detections: the detections.
        protocol: IoU thresholds, sizes and limits.

    Returns:
        precision (T, R, C, S, M) and recall (T, C, S, M), -1 where undefined. For federated objects they are those of
        the lvis package, whose one limit, of 300 detections in an image, is in the place of all three.
    """
    engine = _engine(images, classes, objects, detections, protocol)
    engine.accumulate()
    arrays = engine.eval or {}
    precision, recall = arrays["precision"], arrays["recall"]
    if objects.federated is not None:
        limits = len(protocol.limits)
        return np.repeat(precision, limits, axis=-1), np.repeat(recall, limits, axis=-1)
    for zero in np.flatnonzero(objects.ids == 0):
        _count_as_missed(precision, recall, images, objects, detections, int(zero), protocol)
    return precision, recall


def measure_groups(
    images: int,
    classes: int,
    objects: GroundTruth,
    detections: Predictions,
    ranges: Sequence[tuple[float, float]],
    protocol: Protocol = COCO,
) -> tuple[np.ndarray, np.ndarray]:
    """`measure` of groups of objects in place of sizes: an area may be any property of an object or a detection.

    Args:
        images, classes: as in `measure`.
        objects: the annotated objects, whose `areas` hold the property.
        detections: the detections, likewise.
        ranges: its least and greatest value in each group.
        protocol: IoU thresholds and limits.
    """
    engine = _engine(images, classes, objects, detections, protocol, ranges)
    engine.accumulate()
    arrays = engine.eval or {}
    return arrays["precision"], arrays["recall"]


def matched_images(
    images: int,
    classes: int,
    objects: GroundTruth,
    detections: Predictions,
    ranges: Sequence[tuple[float, float]],
    protocol: Protocol = COCO,
) -> Iterator[dict[str, Any]]:
    """What matches in each size, class and image that has objects or detections: pycocotools' `evalImgs`.

    In `dtMatches` (T, N) 0 is no match. Where an annotation id is 0, other numbers count the objects from 1 in their
    order, and `dtIds` the detections; elsewhere nobody asks which object it is, and they count within a part of the
    images. `aRng` is one of `ranges`, which are sizes or groups as in `measure_groups`.
    """
    zeros = bool((objects.ids == 0).any())
    for start in range(0, images, AT_ONCE):
        own, its = (
            np.flatnonzero((start <= image) & (image < start + AT_ONCE))
            for image in (objects.image, detections.rows[:, 0])
        )
        told = objects.federated and objects.federated[start : start + AT_ONCE]
        there = objects.rows(own)._replace(image=objects.image[own] - start, federated=told)
        found = detections.at(its)
        found.rows[:, 0] -= start
        engine = _engine(min(AT_ONCE, images - start), classes, there, found, protocol, ranges)
        numbers = np.append(0, own + 1)
        for one in engine.eval_imgs:
            if one is None:
                continue
            one["image_id"] += start
            if zeros:
                one["dtMatches"] = numbers[np.array(one["dtMatches"], np.int64)]
                one["dtIds"] = its[np.array(one["dtIds"], np.int64) - 1] + 1
            yield one


def _engine(
    images: int,
    classes: int,
    objects: GroundTruth,
    detections: Predictions,
    protocol: Protocol,
    ranges: Sequence[tuple[float, float]] = (),
) -> hotcoco.COCOeval:
    """The engine after matching, by the sizes of the protocol or by other ranges."""
    engine, ranges = _prepared(images, classes, objects, detections), ranges or protocol.ranges
    engine.params.iou_thrs = list(protocol.ious)
    if objects.federated is None:
        engine.params.max_dets = list(protocol.limits)
    engine.params.area_rng = [list(one) for one in ranges]
    engine.params.area_rng_lbl = [str(k) for k in range(len(ranges))]
    engine.evaluate()
    return engine


def _prepared(images: int, classes: int, objects: GroundTruth, detections: Predictions) -> hotcoco.COCOeval:
    lvis = objects.federated is not None
    masked = objects.masks is not None and detections.masks is not None
    ground_truth = hotcoco.COCO.from_arrays(
        [{"id": image, **record} for image, record in enumerate(objects.federated or [{}] * images)],
        [{"id": label, "name": str(label)} for label in range(classes)],
        objects.image,
        objects.label,
        objects.boxes,
        area=objects.areas,
        iscrowd=objects.crowd,
        segmentation=list(objects.masks) if masked else None,  # type: ignore[arg-type]  # not None
    )
    found = ground_truth.load_res(
        detections.rows,
        segmentation=list(detections.masks) if masked else None,  # type: ignore[arg-type]
    )
    if detections.areas is not None:
        found.update_anns(ids=np.arange(1, len(detections.areas) + 1), area=detections.areas)
    if objects.oriented is None or detections.oriented is None:
        return hotcoco.COCOeval(ground_truth, found, "segm" if masked else "bbox", lvis_style=lvis)
    for side, oriented in ((ground_truth, objects.oriented), (found, detections.oriented)):
        side.update_anns([{"id": row, "obb": box} for row, box in enumerate(oriented.tolist(), 1)])
    return hotcoco.COCOeval(ground_truth, found, "obb", lvis_style=lvis)


def _count_as_missed(
    precision: np.ndarray,
    recall: np.ndarray,
    images: int,
    objects: GroundTruth,
    detections: Predictions,
    zero: int,
    protocol: Protocol,
) -> None:
    """Correct both arrays for the object in row `zero`, whose annotation id is 0.

    pycocotools marks a matched detection with the id of its object, and reads 0 as unmatched: the detection is then
    false, or ignored where its own area is out of range, but the object stays taken. The engine gives the same result
    when the two are moved apart: each then matches nothing, and no other match changes, since neither of them was
    free for another. Which detection it is differs between IoU thresholds and sizes, so each needs a pass of its own
    over the class. A crowd, or an object out of range, is ignored with what it matches, whatever its id.
    """
    label = objects.label[zero]
    beside = np.flatnonzero(objects.label == label)
    none = np.zeros(len(beside), np.int64)
    objects = objects.rows(beside)._replace(label=none, ids=none + 1)
    detections, zero = detections.at(detections.rows[:, 6] == label), int(np.searchsorted(beside, zero))
    detections.rows[:, 6] = 0
    far = 4 * max(float(np.abs(boxes).max(initial=1)) for boxes in (objects.boxes, detections.rows[:, 1:5]))
    objects_apart = _away(objects, zero, far)
    for detection, cells in _matches(objects, detections, zero, protocol).items():
        apart = _away(detections, detection, -far)
        other_precision, other_recall = measure(images, 1, objects_apart, apart, protocol)
        for t, s in cells:
            precision[t, :, label, s] = other_precision[t, :, 0, s]
            recall[t, label, s] = other_recall[t, 0, s]


def _away(side: Side, row: int, far: float) -> Side:
    """A copy in which one row matches nothing: its box is moved by `far` pixels, its mask is empty."""
    columns = {name: column.copy() for name, column in side._asdict().items() if column is not None}
    for name in ("boxes", "oriented"):
        if name in columns:
            columns[name][row, :2] += far
    if "rows" in columns:
        columns["rows"][row, 1:3] += far
    if "masks" in columns:
        height, width = columns["masks"][row]["size"]
        columns["masks"][row] = {"size": [height, width], "counts": [height * width]}
    return side._replace(**columns)


def _matches(
    objects: GroundTruth, detections: Predictions, zero: int, protocol: Protocol
) -> dict[int, list[tuple[int, int]]]:
    """The detections of one class that match object `zero` where it counts: row -> IoU thresholds and sizes."""
    image = objects.image[zero]
    beside, rows = np.flatnonzero(objects.image == image), np.flatnonzero(detections.rows[:, 0] == image)
    detections = detections.at(rows)
    detections.rows[:, 0] = 0
    alone = objects.rows(beside)._replace(image=np.zeros(len(beside), np.int64))
    engine = _engine(1, 1, alone, detections, protocol)
    name = int(np.searchsorted(beside, zero)) + 1  # the engine counts objects and detections from 1
    cells = defaultdict(list)
    for s, result in enumerate(engine.eval_imgs):
        if result is None or result["gtIgnore"][result["gtIds"].index(name)]:
            continue
        for t, matched in enumerate(result["dtMatches"]):
            if name in matched:
                cells[int(rows[result["dtIds"][matched.index(name)] - 1])].append((t, s))
    return cells
