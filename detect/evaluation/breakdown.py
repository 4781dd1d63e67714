"""AP of parts of a split: by the size and the aspect ratio of objects, by the number of objects and the brightness of
images.

An object's group is what pycocotools does with an area range: objects of other groups, what matches them, and unmatched
detections of other groups are left out. A group of images is a split of its own. So every AP is pycocotools'.

Axes: I images, G objects, N detections, B groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_engine import GroundTruth, Predictions, measure_groups
from detect.evaluation.coco_protocol import Records, Summary, engine_inputs, mean_defined, summarize
from detect.evaluation.protocol import COCO, LARGEST, Protocol

SIZES = ("small: below 32 x 32 px", "medium: to 96 x 96 px", "large")  # COCO's
ASPECTS = ("below 1:2 (tall)", "1:2 to 4:5", "4:5 to 5:4 (square)", "5:4 to 2:1", "above 2:1 (wide)")
RATIOS = (0.0, 0.5, 0.8, 1.25, 2.0, np.inf)  # width to height
CROWDING = (1, 2, 4, 8, 16, 32)  # least number of objects in an image of each group


class Group(NamedTuple):
    """A part of a split: its name, its objects and images, and its AP, AP50 and AR100, None where undefined."""

    name: str
    objects: int
    images: int
    ap: float | None
    ap50: float | None
    recall: float | None


def by_size(annotations: Annotations, summary: Summary, protocol: Protocol = COCO) -> list[Group]:
    """Groups by the annotated area of objects, COCO's three; their AP is that of `summary`: APs, APm and APl."""
    place = np.searchsorted(protocol.edges, annotations.areas, side="right")
    precision, recall = (one[..., 1:, -1] for one in (summary.precision, summary.recall))
    return _groups(annotations, size_names(protocol), place, precision, recall, protocol)


def size_names(protocol: Protocol) -> Sequence[str]:
    """What the sizes of a protocol are called."""
    if protocol.edges == COCO.edges:
        return SIZES
    return [f"{low:g} to {high:g} px²" if high < LARGEST else f"from {low:g} px²" for low, high in protocol.ranges[1:]]


def by_aspect(annotations: Annotations, records: Records, protocol: Protocol = COCO) -> list[Group]:
    """Five groups of objects by the aspect ratio of their boxes, width to height."""
    precision, recall = measure_groups(*aspect_inputs(annotations, records), list(pairwise(RATIOS)), protocol)
    place = aspects(annotations)
    return _groups(annotations, ASPECTS, place, precision[..., -1], recall[..., -1], protocol)


def aspects(annotations: Annotations) -> np.ndarray:
    """The group of each object by its aspect ratio (G,), an index into ASPECTS."""
    place: np.ndarray = np.searchsorted(RATIOS[1:-1], _ratios(annotations.boxes), side="right")
    return place


def aspect_inputs(annotations: Annotations, records: Records) -> tuple[int, int, GroundTruth, Predictions]:
    """`engine_inputs` with aspect ratios in the place of areas, so that ranges of these part objects and detections."""
    images, classes, objects, detections = engine_inputs(annotations, records)
    return (
        images,
        classes,
        objects._replace(areas=_ratios(annotations.boxes)),
        detections._replace(areas=_ratios(detections.rows[:, 1:5])),
    )


def _ratios(boxes: np.ndarray) -> np.ndarray:
    ratios: np.ndarray = boxes[:, 2] / np.maximum(boxes[:, 3], 1e-9)
    return ratios


def _groups(
    annotations: Annotations,
    names: Sequence[str],
    place: np.ndarray,
    precision: np.ndarray,
    recall: np.ndarray,
    protocol: Protocol,
) -> list[Group]:
    """The groups of objects in `place` (G,), of precision (T, R, C, B) and recall (T, C, B)."""
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    found = []
    for k, name in enumerate(names):
        here = (place == k) & ~annotations.crowd
        values = precision[..., k], precision[protocol.at(0.5), ..., k], recall[..., k]
        found.append(Group(name, int(here.sum()), len(np.unique(owner[here])), *map(mean_defined, values)))
    return found


def by_crowding(annotations: Annotations, records: Records, protocol: Protocol = COCO) -> list[Group]:
    """Groups of images by the number of objects in each; images without objects are in none."""
    return by_image(annotations, records, *crowding(annotations), protocol)


def crowding(annotations: Annotations) -> tuple[np.ndarray, list[str]]:
    """The group of each image by its number of objects (I,), -1 for those without; and the names of the groups."""
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    count = np.bincount(owner[~annotations.crowd], minlength=len(annotations))
    place = np.searchsorted(CROWDING, count, side="right") - 1
    last = [f"{low} to {high - 1}" for low, high in pairwise(CROWDING[1:])]
    return place, ["1 object", *last, f"{CROWDING[-1]} and more"]


def by_brightness(
    annotations: Annotations, records: Records, brightness: np.ndarray, protocol: Protocol = COCO
) -> list[Group]:
    """Quarters of the images by their brightness (I,), the darkest first."""
    return by_image(annotations, records, *quarters(brightness), protocol)


def quarters(values: np.ndarray, digits: int = 0) -> tuple[np.ndarray, list[str]]:
    """The quarter in which the value (I,) of each image is, the least first, and the names of the quarters."""
    edges = np.unique(np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
    place = np.minimum(np.searchsorted(edges, values, side="right") - 1, max(len(edges) - 2, 0))
    names = [f"{low:.{digits}f} to {high:.{digits}f}" for low, high in pairwise(edges)]
    return place, names or [f"{edges[0]:.{digits}f}"]


def by_image(
    annotations: Annotations, records: Records, place: np.ndarray, names: Sequence[str], protocol: Protocol = COCO
) -> list[Group]:
    """Groups of images: that of each is `place` (I,), an index into `names`; groups without images are left out."""
    found = []
    for k, name in enumerate(names):
        indices = np.flatnonzero(place == k)
        if len(indices):
            some = annotations.select(indices)
            summary = summarize(some, records.of_images(some.image_ids), protocol)
            precision = summary.precision[..., 0, -1]
            values = precision, precision[protocol.at(0.5)], summary.recall[..., 0, -1]
            found.append(Group(name, int((~some.crowd).sum()), len(some), *map(mean_defined, values)))
    return found


def mean_brightness(annotations: Annotations) -> np.ndarray:
    """The mean value of all pixels and channels of each image (I,), 0 black to 255 white."""
    with ThreadPoolExecutor(4) as pool:  # decoding leaves Python's lock
        return np.array(list(pool.map(lambda i: float(annotations.read(i).mean()), range(len(annotations)))))
