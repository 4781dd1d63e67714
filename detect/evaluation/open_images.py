"""Average precision as the Open Images Challenge measures it (Kuznetsova et al. 2020, arXiv 1811.00982, section 4.2.3).

Objects and detections count for their class and for all that it is a kind of. Detections of classes that their image
was not checked for are left out. Each detection, best first, looks at the object that it overlaps most: from IoU 0.5 on
the first one is right. Of the others those that lie in a group-of box, to half of their area or more, are together one
right detection of that group, with the highest of their scores. AP is the area under the curve of precision over
recall.

Axes: N detections and G objects, of an image and class where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.data.federation import Federation
from detect.data.groups import gather, starts_of
from detect.evaluation.coco_protocol import Records
from detect.evaluation.dota import area_ap, precision_recall
from detect.evaluation.resampled_ap import ClassMatches

MATCH = 0.5  # IoU with an object; share of the detection that lies in a group
_Part = tuple[int, np.ndarray, np.ndarray]  # of an image: its row, scores, and whether each is right


class _Expanded(NamedTuple):
    """Boxes of all images, one for each class that they count for: row of the image, label, row of the box (N,)."""

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def open_images_ap(annotations: Annotations, matches: Sequence[ClassMatches]) -> dict[str, float | None]:
    """AP at IoU 0.5 by class name, None for a class without objects."""
    return dict(zip(annotations.names, map(matched_ap, matches), strict=True))


def open_images_matches(annotations: Annotations, records: Records) -> list[ClassMatches]:
    """What the detections of each class match. An image without records has no detections."""
    federation, classes = annotations.federation, len(annotations.names)
    assert federation is not None
    by_id = np.argsort(annotations.image_ids)
    rank = np.argsort(by_id)  # ties between images: by their ids
    row_of = {image: row for row, image in enumerate(annotations.image_ids.tolist())}
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    found = np.repeat(np.array([row_of[i] for i in records.image_ids.tolist()], np.int64), records.counts)
    objects = _expanded(federation, owner, annotations.labels, classes)
    detections = _expanded(federation, found, records.labels, classes)
    checked = federation.judged(detections.images, detections.labels)[1]
    detections = _Expanded(*(column[checked] for column in detections))
    things, none = _by_image_and_class(objects, rank, classes), np.zeros(0, np.int64)
    parts: list[list[_Part]] = [[] for _ in range(classes)]
    for key, rows in _by_image_and_class(detections, rank, classes).items():
        rows, own = rows[np.argsort(-records.scores[rows], kind="stable")], things.get(key, none)
        boxes = records.boxes[rows], records.scores[rows], annotations.boxes[own], annotations.crowd[own]
        parts[key % classes].append((int(by_id[key // classes]), *_matched(*boxes)))
    return [joined(some, objects.images[objects.labels == label]) for label, some in enumerate(parts)]


def joined(parts: Sequence[_Part], objects: np.ndarray) -> ClassMatches:
    """The detections of a class that count, from the highest score to the lowest.

    Args:
        parts: of each image its row, the scores, and whether each is right.
        objects: (G,) the row of the image of each object that counts.
    """
    scores = np.concatenate([np.zeros(0), *(scores for _, scores, _ in parts)])
    right = np.concatenate([np.zeros(0, bool), *(right for _, _, right in parts)])
    images = np.repeat(np.array([image for image, _, _ in parts], np.int64), [len(s) for _, s, _ in parts])
    order = np.argsort(-scores, kind="stable")
    counted = np.ones((1, len(order)), bool)
    return ClassMatches(images[order], np.zeros(len(order), np.int64), right[order][None], counted, objects)


def matched_ap(one: ClassMatches) -> float | None:
    """The area under the curve of a class; None without objects."""
    return area_ap(*precision_recall(one.right[0], len(one.objects))) if len(one.objects) else None


def _expanded(federation: Federation, images: np.ndarray, labels: np.ndarray, classes: int) -> _Expanded:
    parents = federation.parents or ((),) * classes
    flat = np.array([one for label, above in enumerate(parents) for one in (label, *above)], np.int64)
    at, begins = gather(starts_of([1 + len(above) for above in parents]), labels)
    rows = np.repeat(np.arange(len(labels)), np.diff(begins))
    return _Expanded(images[rows], flat[at], rows)


def _by_image_and_class(boxes: _Expanded, rank: np.ndarray, classes: int) -> dict[int, np.ndarray]:
    """The rows of the boxes of each image and class, by rank of the image times classes plus label, ascending."""
    keys = rank[boxes.images] * classes + boxes.labels
    order = np.argsort(keys, kind="stable")
    values, first = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(boxes.rows[order], first[1:]), strict=False))


def _matched(
    boxes: np.ndarray, scores: np.ndarray, things: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and whether they are right, of what counts: detections outside of groups, and a group that is found.

    Args:
        boxes: (N, 4) x, y, width, height of the detections, best first. scores: (N,).
        things: (G, 4) of the objects. group: (G,) whether it is a group-of box.
    """
    shared, areas = intersections(boxes, things), boxes[:, 2] * boxes[:, 3]
    union = areas[:, None] + things[:, 2] * things[:, 3] - shared
    iou, inside = (shared / np.maximum(whole, 1e-12) for whole in (union, areas[:, None]))
    right, taken, own = np.zeros(len(boxes), bool), set[int](), np.flatnonzero(~group)
    for n, best in enumerate(own[iou[:, own].argmax(1)].tolist() if len(own) else []):
        if iou[n, best] >= MATCH and best not in taken:
            right[n] = True
            taken.add(best)
    if not group.any():
        return scores, right
    inside = inside[:, group]
    grouped = ~right & (inside.max(1) >= MATCH)
    nearest = inside.argmax(1)[grouped]
    highest = [scores[grouped][nearest == one].max() for one in np.unique(nearest)]
    right = np.concatenate([right[~grouped], np.ones(len(highest), bool)])
    return np.concatenate([scores[~grouped], highest]), right


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shared areas (N, G) of boxes (N, 4) and (G, 4), x, y, width, height."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    area: np.ndarray = (high - low).clip(min=0).prod(-1)
    return area
