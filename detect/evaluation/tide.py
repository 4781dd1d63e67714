"""Why detections are wrong, and what each kind of error costs: TIDE (Bolya et al., 2020, arXiv 2008.08115).

Every false positive is of one of five kinds, and an object is missed where not even a wrong detection could have found
it. A kind costs the AP at IoU 0.5 that is gained by correcting it alone. The arithmetic is that of the authors'
package, except for equal scores: these keep their order when errors are corrected (the package puts errors first, so
that a kind that costs something may seem to cost nothing).

Axes: N detections, G objects, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_protocol import Records, judged
from detect.evaluation.overlaps import overlaps

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
RIGHT = -1  # the kind of a true positive
FOREGROUND, NOTHING = 0.5, 0.1  # IoU of a match, IoU of background
LIMIT = 100  # detections of an image that the costs of errors are computed from, as in the package


class ErrorAnalysis(NamedTuple):
    """The detections (N,) of a set, image by image and by falling score, with their errors; and the objects (G,).

    kind: RIGHT or an index into KINDS; counts: false in a crowd region, where a detection is neither right nor wrong;
    image: index of its image; row: its place in the Records; matched: the object that it matches, or would match if
    corrected, -1 for none; corrects: whether it is the best detection that could match this object; object_labels: the
    classes of the objects; found: whether an object is matched; lost: whether it is missed in the sense of TIDE.
    """

    scores: np.ndarray
    labels: np.ndarray
    kind: np.ndarray
    counts: np.ndarray
    image: np.ndarray
    row: np.ndarray
    matched: np.ndarray
    corrects: np.ndarray
    object_labels: np.ndarray
    found: np.ndarray
    lost: np.ndarray


class ErrorCosts(NamedTuple):
    """AP at IoU 0.5 by TIDE, the costs and counts by kind, and the costs of all false positives and negatives."""

    ap: float
    costs: dict[str, float]
    counts: dict[str, int]
    false_positives: float
    false_negatives: float


def analyze_errors(annotations: Annotations, records: Records, limit: int | None = None) -> ErrorAnalysis:
    """Match every detection of `records` and name its error; crowd regions are no objects.

    With a `limit`, only so many detections of each image, the most confident ones.

    Detections of classes that their image was not checked for are left out (see `Federation`).
    """
    parts, objects = [], 0
    if_false, if_right = judged(annotations, records)
    place = {image: row for row, image in enumerate(records.image_ids.tolist())}
    ends = records.counts.cumsum()
    for i, image in enumerate(annotations.image_ids.tolist()):
        n = place.get(image)
        rows = np.arange(ends[n] - records.counts[n], ends[n]) if n is not None else np.zeros(0, np.int64)
        rows = rows[if_right[rows]]
        rows = rows[np.argsort(-records.scores[rows], kind="stable")][:limit]
        here = slice(annotations.starts[i], annotations.starts[i + 1])
        names = annotations.labels[here][~annotations.crowd[here]]
        overlap, inside = overlaps(annotations, records, i, rows)
        kind, matched, corrects, lost = _image(overlap, records.labels[rows], records.scores[rows], names)
        found = np.zeros(len(names), bool)
        found[matched[kind == RIGHT]] = True
        matched = np.where(matched >= 0, matched + objects, -1)
        objects += len(found)
        scores = (
            records.scores[rows],
            records.labels[rows],
            kind,
            (~inside & if_false[rows]) | (kind == RIGHT),
            np.full(len(rows), i),
            rows,
            matched,
            corrects,
        )
        parts.append((*scores, names, found, lost))
    return ErrorAnalysis(*map(np.concatenate, zip(*parts, strict=True)))


def _image(
    overlap: np.ndarray, labels: np.ndarray, scores: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For the detections of one image, best first: kind, matched and corrects (N,); for its objects: lost (G,)."""
    kind, matched = np.full(len(labels), BACKGROUND), np.full(len(labels), -1)
    corrects = np.zeros(len(labels), bool)
    if not overlap.size:
        return kind, matched, corrects, np.ones(len(classes), bool)
    same = labels[:, None] == classes
    own, other = overlap * same, overlap * ~same
    taken, free = np.zeros(len(classes), bool), own.copy()
    for n in range(len(labels)):
        best = free[n].argmax()
        if free[n, best] >= FOREGROUND:
            kind[n], matched[n], taken[best] = RIGHT, best, True
            free[:, best] = 0
    reachable, best_of = np.zeros(len(classes), bool), np.full(len(classes), -1)
    for n in np.flatnonzero(kind != RIGHT).tolist():
        kind[n], g = _wrong(own[n], other[n], own[n] * taken, overlap[n])
        if g >= 0 and not taken[g]:
            matched[n], reachable[g] = g, True
            if best_of[g] < 0 or scores[n] > scores[best_of[g]]:
                best_of[g] = n
    corrects[best_of[best_of >= 0]] = True
    return kind, matched, corrects, ~taken & ~reachable


def _wrong(own: np.ndarray, other: np.ndarray, taken: np.ndarray, overlap: np.ndarray) -> tuple[int, int]:
    """The kind of a false positive, and the object that it would match if corrected, -1 for none.

    Args:
        own: (G,) its IoU with the objects of its class, 0 for others.
        other: (G,) its IoU with objects of other classes.
        taken: (G,) its IoU with objects of its class that are matched already.
        overlap: (G,) its IoU with all objects.
    """
    if NOTHING <= own.max() <= FOREGROUND:
        return LOCALIZATION, int(own.argmax())
    if other.max() >= FOREGROUND:
        return CLASSIFICATION, int(other.argmax())
    if taken.max() >= FOREGROUND:
        return DUPLICATE, -1
    return (BACKGROUND if overlap.max() <= NOTHING else BOTH), -1


def error_costs(errors: ErrorAnalysis, classes: int) -> ErrorCosts:
    """What each kind of error costs, and how often it occurs; AP is 0 where there are no objects.

    The authors' package analyzes LIMIT detections of each image.
    """
    j, object_counts = errors, np.bincount(errors.object_labels, minlength=classes)
    right, wrong = j.kind == RIGHT, (j.kind != RIGHT) & j.counts
    whole = _ap(j.scores, j.labels, right, right | wrong, object_counts)
    costs = {}
    for kind, name in enumerate(KINDS):
        if kind == MISSED:
            left = object_counts - np.bincount(j.object_labels[j.lost], minlength=classes)
            corrected = _ap_corrected(j, wrong, right, np.zeros_like(right), left)
        else:
            corrected = _ap_corrected(j, wrong & (j.kind != kind), right, j.corrects & (j.kind == kind), object_counts)
        costs[name] = max(0.0, corrected - whole)
    counts = {name: int((j.kind == kind).sum()) for kind, name in enumerate(KINDS)} | {"missed": int(j.lost.sum())}
    perfect = _ap(np.where(right, 1.0, 0.0), j.labels, right, right | wrong, object_counts)
    every = _ap(
        j.scores,
        j.labels,
        right,
        right | wrong,
        object_counts - np.bincount(j.object_labels[~j.found], minlength=classes),
    )
    return ErrorCosts(whole, costs, counts, perfect - whole, every - whole)


def _ap_corrected(
    j: ErrorAnalysis, wrong: np.ndarray, right: np.ndarray, corrected: np.ndarray, object_counts: np.ndarray
) -> float:
    """AP with the `corrected` detections right, of the class of their object; equal scores keep their order."""
    labels = np.where(corrected & (j.matched >= 0), j.object_labels[j.matched] if len(j.object_labels) else 0, j.labels)
    return _ap(j.scores, labels, right | corrected, wrong | right | corrected, object_counts)


def _ap(
    scores: np.ndarray, labels: np.ndarray, right: np.ndarray, counts: np.ndarray, object_counts: np.ndarray
) -> float:
    """Mean over classes of the precision at 101 recall levels; classes without objects and detections are left out."""
    found = []
    for label, objects in enumerate(object_counts.tolist()):
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


def confusion(annotations: Annotations, records: Records, conf: float) -> np.ndarray:
    """The confusion matrix: objects of each class (rows) by the class of the detection that matches them (columns).

    Detections that score at least `conf`, best first, each match the free object that they overlap most, by IoU 0.5 or
    more, whatever its class. Crowd regions are left out, and so are detections in them, and those without an object of
    classes that their image was not checked for.

    Returns:
        (C + 1, C + 1) int64; the last row counts detections without an object, the last column objects without a
        detection.
    """
    classes = len(annotations.names)
    table = np.zeros((classes + 1, classes + 1), np.int64)
    place = {image: row for row, image in enumerate(records.image_ids.tolist())}
    ends, if_false = records.counts.cumsum(), judged(annotations, records)[0]
    for i, image in enumerate(annotations.image_ids.tolist()):
        n = place.get(image)
        rows = np.arange(ends[n] - records.counts[n], ends[n]) if n is not None else np.zeros(0, np.int64)
        rows = rows[records.scores[rows] >= conf]
        rows = rows[np.argsort(-records.scores[rows], kind="stable")]
        here = slice(annotations.starts[i], annotations.starts[i + 1])
        names = annotations.labels[here][~annotations.crowd[here]]
        free, inside = overlaps(annotations, records, i, rows)
        left = np.ones(len(names), bool)
        for n, row in enumerate(rows.tolist()):
            best = int(free[n].argmax()) if len(names) else -1
            if best >= 0 and free[n, best] >= FOREGROUND:
                table[names[best], records.labels[row]] += 1
                left[best] = False
                free[:, best] = 0
            elif not inside[n] and if_false[row]:
                table[classes, records.labels[row]] += 1
        np.add.at(table, (names[left], classes), 1)  # pyrefly: ignore[bad-argument-type]
    return table
