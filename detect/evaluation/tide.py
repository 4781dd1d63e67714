"""Why detections are wrong, and what each kind of error costs: TIDE (Bolya et al., 2020, arXiv 2008.08115).

Every false positive is one of five kinds, every object that nothing but such an error could have found is missed; what
a kind costs is how much AP at IoU 0.5 rises where it alone is mended. The arithmetic is that of the authors' package,
but for equal scores: these keep their order when errors are mended (the package puts errors first, so that a kind that
costs something may seem to cost nothing).

Axes: N detections, G objects, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.evaluation.coco_protocol import Records

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
RIGHT = -1  # the kind of a true positive
FOREGROUND, NOTHING, LIMIT = 0.5, 0.1, 100  # IoU of a match, IoU of no relation, detections an image


class Judged(NamedTuple):
    """Detections (N,) of a set with what they are, image by image and by falling score, and its objects (G,).

    kind: RIGHT or a place in KINDS; counts: false for what lies in a crowd region, which is neither right nor wrong;
    image: the row of its image; row: its place in the Records; object: the object it found, or that mending it finds,
    -1 for none; mends: whether it is the best detection that could find this object. `found` (G,) are the objects that
    were; `lost` those that are missed in the sense of TIDE.
    """

    scores: np.ndarray
    labels: np.ndarray
    kind: np.ndarray
    counts: np.ndarray
    image: np.ndarray
    row: np.ndarray
    object: np.ndarray
    mends: np.ndarray
    truth: np.ndarray  # (G,) the labels of the objects
    found: np.ndarray
    lost: np.ndarray


class Budget(NamedTuple):
    """ap: AP at IoU 0.5 as TIDE has it; costs and counts: by kind; false_positives, false_negatives: what all cost."""

    ap: float
    costs: dict[str, float]
    counts: dict[str, int]
    false_positives: float
    false_negatives: float


def judge(store: Annotations, records: Records) -> Judged:
    """What every detection of `records` is, among the objects of `store`; crowd regions are no objects."""
    parts, objects = [], 0
    place = {image: row for row, image in enumerate(records.image_ids.tolist())}
    ends = records.counts.cumsum()
    for i, image in enumerate(store.image_ids.tolist()):
        n = place.get(image)
        rows = np.arange(ends[n] - records.counts[n], ends[n]) if n is not None else np.zeros(0, np.int64)
        rows = rows[np.argsort(-records.scores[rows], kind="stable")][:LIMIT]
        here = slice(store.starts[i], store.starts[i + 1])
        plain = ~store.crowd[here]
        truth, labels = store.boxes[here], store.labels[here]
        kind, finds, mends, lost = _image(
            records.boxes[rows], records.labels[rows], records.scores[rows], truth[plain], labels[plain]
        )
        inside = _inside(records.boxes[rows], records.labels[rows], truth[~plain], labels[~plain]) & (kind != RIGHT)
        found = np.zeros(plain.sum(), bool)
        found[finds[kind == RIGHT]] = True
        finds = np.where(finds >= 0, finds + objects, -1)
        objects += len(found)
        scores = (records.scores[rows], records.labels[rows], kind, ~inside, np.full(len(rows), i), rows, finds, mends)
        parts.append((*scores, labels[plain], found, lost))
    return Judged(*map(np.concatenate, zip(*parts, strict=True)))


def _image(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, truth: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of one image's detections, best first: kind, object and mends (N,); of its objects: lost (G,)."""
    kind, finds = np.full(len(boxes), BACKGROUND), np.full(len(boxes), -1)
    mends = np.zeros(len(boxes), bool)
    if not len(truth) or not len(boxes):
        return kind, finds, mends, np.ones(len(truth), bool)
    overlap = _overlaps(boxes, truth)
    same = labels[:, None] == classes
    own, other = overlap * same, overlap * ~same
    taken, free = np.zeros(len(truth), bool), own.copy()
    for n in range(len(boxes)):
        best = free[n].argmax()
        if free[n, best] >= FOREGROUND:
            kind[n], finds[n], taken[best] = RIGHT, best, True
            free[:, best] = 0
    reachable, best_of = np.zeros(len(truth), bool), np.full(len(truth), -1)
    for n in np.flatnonzero(kind != RIGHT).tolist():
        kind[n], g = _wrong(own[n], other[n], own[n] * taken, overlap[n])
        if g >= 0 and not taken[g]:
            finds[n], reachable[g] = g, True
            if best_of[g] < 0 or scores[n] > scores[best_of[g]]:
                best_of[g] = n
    mends[best_of[best_of >= 0]] = True
    return kind, finds, mends, ~taken & ~reachable


def _wrong(own: np.ndarray, other: np.ndarray, taken: np.ndarray, overlap: np.ndarray) -> tuple[int, int]:
    """The kind of a false positive and the object that it would find if mended, -1 for none.

    From its IoU (G,) with objects of its class, of other classes, with those of its class already found, with all.
    """
    if NOTHING <= own.max() <= FOREGROUND:
        return LOCALIZATION, int(own.argmax())
    if other.max() >= FOREGROUND:
        return CLASSIFICATION, int(other.argmax())
    if taken.max() >= FOREGROUND:
        return DUPLICATE, -1
    return (BACKGROUND if overlap.max() <= NOTHING else BOTH), -1


def _overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU (N, G) of boxes x, y, width, height."""
    return iou(xywh_to_xyxy(torch.from_numpy(boxes)), xywh_to_xyxy(torch.from_numpy(truth))).numpy()


def _inside(boxes: np.ndarray, labels: np.ndarray, crowds: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Whether each detection lies by more than half in a crowd region of its class (N,)."""
    low = np.maximum(boxes[:, None, :2], crowds[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], crowds[None, :, :2] + crowds[None, :, 2:])
    shared = (high - low).clip(min=0).prod(-1) / np.maximum(boxes[:, None, 2:].prod(-1), 1e-12)
    return ((shared > FOREGROUND) & (labels[:, None] == classes)).any(1)


def budget(judged: Judged, classes: int) -> Budget:
    """What each kind of error costs, and how many of it there are; AP is 0 where there is nothing to find."""
    j, truth = judged, np.bincount(judged.truth, minlength=classes)
    right, wrong = j.kind == RIGHT, (j.kind != RIGHT) & j.counts
    whole = _ap(j.scores, j.labels, right, right | wrong, truth)
    costs = {}
    for kind, name in enumerate(KINDS):
        if kind == MISSED:
            left = truth - np.bincount(j.truth[j.lost], minlength=classes)
            mended = _mended(j, wrong, right, np.zeros_like(right), left)
        else:
            mended = _mended(j, wrong & (j.kind != kind), right, j.mends & (j.kind == kind), truth)
        costs[name] = max(0.0, mended - whole)
    counts = {name: int((j.kind == kind).sum()) for kind, name in enumerate(KINDS)} | {"missed": int(j.lost.sum())}
    perfect = _ap(np.where(right, 1.0, 0.0), j.labels, right, right | wrong, truth)
    every = _ap(j.scores, j.labels, right, right | wrong, truth - np.bincount(j.truth[~j.found], minlength=classes))
    return Budget(whole, costs, counts, perfect - whole, every - whole)


def _mended(j: Judged, wrong: np.ndarray, right: np.ndarray, mended: np.ndarray, truth: np.ndarray) -> float:
    """AP where `mended` detections are right, of the class of their object. Equal scores keep their order."""
    labels = np.where(mended & (j.object >= 0), j.truth[j.object] if len(j.truth) else 0, j.labels)
    return _ap(j.scores, labels, right | mended, wrong | right | mended, truth)


def _ap(scores: np.ndarray, labels: np.ndarray, right: np.ndarray, counts: np.ndarray, truth: np.ndarray) -> float:
    """The mean over classes of precision at 101 levels of recall; classes with neither objects nor detections aside."""
    found = []
    for label, objects in enumerate(truth.tolist()):
        rows = np.flatnonzero(counts & (labels == label))
        if len(rows) or objects:
            found.append(_class_ap(right[rows[np.argsort(-scores[rows], kind="stable")]], objects))
    return float(np.mean(found)) if found else 0.0


def _class_ap(right: np.ndarray, objects: int) -> float:
    if not objects:
        return 0.0
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    place = np.searchsorted(hits / objects, np.arange(101) / 100)
    return float(np.append(precision, 0.0)[np.minimum(place, len(right))].sum() / 101)


def curves(judged: Judged, classes: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each class, falling scores with the precision and recall of what scores as much or more, at IoU 0.5."""
    for label in range(classes):
        rows = np.flatnonzero(judged.counts & (judged.labels == label))
        rows = rows[np.argsort(-judged.scores[rows], kind="stable")]
        hits = (judged.kind[rows] == RIGHT).cumsum()
        objects = int((judged.truth == label).sum())
        yield judged.scores[rows], hits / np.arange(1, len(rows) + 1), hits / max(1, objects)


def confusion(store: Annotations, records: Records, conf: float) -> np.ndarray:
    """Objects of each class (rows) by the class of what found them (columns), (C + 1, C + 1); the last is none of them.

    Detections from `conf` on, best first, each take the free object that they overlap most, by IoU 0.5 or more,
    whatever its class. What is left over was seen where nothing is, or not seen. Crowd regions are left out, and so are
    detections in them.
    """
    classes = len(store.names)
    table = np.zeros((classes + 1, classes + 1), np.int64)
    place = {image: row for row, image in enumerate(records.image_ids.tolist())}
    ends = records.counts.cumsum()
    for i, image in enumerate(store.image_ids.tolist()):
        n = place.get(image)
        rows = np.arange(ends[n] - records.counts[n], ends[n]) if n is not None else np.zeros(0, np.int64)
        rows = rows[records.scores[rows] >= conf]
        rows = rows[np.argsort(-records.scores[rows], kind="stable")]
        here = slice(store.starts[i], store.starts[i + 1])
        plain = ~store.crowd[here]
        truth, labels = store.boxes[here], store.labels[here]
        inside = _inside(records.boxes[rows], records.labels[rows], truth[~plain], labels[~plain])
        free = _overlaps(records.boxes[rows], truth[plain])
        names = labels[plain]
        left = np.ones(len(names), bool)
        for n, row in enumerate(rows.tolist()):
            best = int(free[n].argmax()) if len(names) else -1
            if best >= 0 and free[n, best] >= FOREGROUND:
                table[names[best], records.labels[row]] += 1
                left[best] = False
                free[:, best] = 0
            elif not inside[n]:
                table[classes, records.labels[row]] += 1
        np.add.at(table, (names[left], classes), 1)
    return table
