"""Mistakes of each kind, scored between 0 and 1 by what the predictions say.

ObjectLab (Tkachenko et al., 2309.00832) scores overlooked, swapped and badly located boxes by similarity and
confidence. Here scores are of single labels, by curves that are measured on the same labels: how far a prediction is to
be trusted, how unusual the IoU of a label is, and whether a label looks like background. Those of duplicates are a rule
of thumb.

Axes: N labels, D predictions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detect.data.annotations import Annotations
from detect.data.boxes import objects, owners
from detect.evaluation.coco_protocol import Records
from detect.mistakes.background import spurious
from detect.mistakes.calibration import wrong_box
from detect.mistakes.evidence import SAME, Evidence, Overlaps, box_iou
from detect.mistakes.kinds import ACTIONS, CLASS, DUPLICATE, LOCATION, MISSING, SPURIOUS, Box, Mistake

DOUBLED = 0.8  # IoU from which two labels of a class are surely of one object; at SAME they are surely not


def as_box(values: np.ndarray) -> Box:
    """Return four numbers as a tuple."""
    x, y, width, height = values.tolist()
    return x, y, width, height


def missing(annotations: Annotations, records: Records, found: Overlaps, evidence: Evidence) -> Iterator[Mistake]:
    """Yield objects that are predicted and not labelled; of predictions at one place the best supported."""
    rows = np.flatnonzero(evidence.free)
    rows = rows[np.lexsort((-evidence.support[rows], found.image[rows]))]
    for image in np.unique(found.image[rows]).tolist():
        here = rows[found.image[rows] == image]
        same, kept = box_iou(records.boxes[here], records.boxes[here]) >= SAME, list[int]()
        for n, row in enumerate(here.tolist()):
            if not same[n, kept].any():
                kept.append(n)
                score, box = float(evidence.support[row]), as_box(records.boxes[row])
                yield Mistake(MISSING, score, image, -1, ACTIONS[MISSING], box, int(records.labels[row]))


def of_labels(
    annotations: Annotations, records: Records, images: np.ndarray, evidence: Evidence, known: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each kind the scores (N,) of the labels, and the prediction (N,) that tells what is right, or -1.

    Args:
        annotations: the labels.
        records: the predictions.
        images: (D,) the image of each.
        evidence: what they say of the labels.
        known: (C,) bool, the classes that the models know; labels of others are not judged.
    """
    labels, classes = annotations.labels, len(annotations.names)
    judged = objects(annotations) & known[labels]
    trusted = evidence.of(evidence.partner)
    placed = np.where(evidence.iou >= SAME, trusted, 0.0)  # how far the label's own class is confirmed where it lies
    unseen = spurious(annotations, records, images, judged)
    pairs = evidence.partner >= 0
    confirmed = judged & pairs & (evidence.iou >= SAME)
    sure = np.minimum(1.0, trusted / usual_trust(trusted, labels, confirmed, classes)[labels])
    near = pairs & (evidence.iou < SAME)  # an object is there, but not where the label says
    moved = np.where(near, unseen, wrong_box(evidence.iou, labels, confirmed, classes)) * sure * pairs
    unseen = unseen * (1 - sure * near)
    renamed = evidence.of(evidence.rival) * (1 - placed)
    none = np.full(len(labels), -1)
    found = {SPURIOUS: (unseen, none), CLASS: (renamed, evidence.rival), LOCATION: (moved, evidence.partner)}
    return {kind: (np.where(judged, scores, 0.0), right) for kind, (scores, right) in found.items()}


def usual_trust(trusted: np.ndarray, labels: np.ndarray, confirmed: np.ndarray, classes: int) -> np.ndarray:
    """Return (C,) how far the predictions that confirm labels of each class are usually trusted: the median.

    Args:
        trusted: (N,) the support of the prediction at each label.
        labels: (N,) classes.
        confirmed: (N,) bool, labels with a prediction at their place.
        classes: C.
    """
    everywhere = float(np.median(trusted[confirmed])) if confirmed.any() else 1.0
    found = np.full(classes, max(everywhere, 1e-6))
    for label in np.unique(labels[confirmed]).tolist():
        found[label] = max(float(np.median(trusted[confirmed & (labels == label)])), 1e-6)
    return found


def duplicates(annotations: Annotations, evidence: Evidence) -> Iterator[tuple[float, int, int]]:
    """Yield (score, label to remove, label to keep) of labels of one class at one place.

    Two objects may lie like that. But then a model that finds both confirms each by a prediction of its own.
    """
    kept = objects(annotations)
    confirmed = np.where(evidence.iou >= SAME, evidence.of(evidence.partner), 0.0)
    for image in range(len(annotations)):
        rows = np.arange(annotations.starts[image], annotations.starts[image + 1])
        rows = rows[kept[rows]]
        same = np.triu(box_iou(annotations.boxes[rows], annotations.boxes[rows]), 1)
        same *= annotations.labels[rows][:, None] == annotations.labels[rows]
        for a, b in zip(*np.nonzero(same > SAME), strict=True):
            one, other = int(rows[a]), int(rows[b])
            if (confirmed[one], evidence.iou[one]) < (confirmed[other], evidence.iou[other]):
                one, other = other, one
            near = min(1.0, (float(same[a, b]) - SAME) / (DOUBLED - SAME))
            yield near * (1 - float(confirmed[other])), other, one


def mistakes(
    annotations: Annotations, records: Records, found: Overlaps, evidence: Evidence, known: np.ndarray
) -> list[Mistake]:
    """Return the mistakes of all kinds but those of near duplicates; a label has its likeliest kind alone."""
    listed = list(missing(annotations, records, found, evidence))
    kinds, owner = of_labels(annotations, records, found.image, evidence, known), owners(annotations)
    scores = np.stack([kinds[kind][0] for kind in kinds])
    best = dict[int, Mistake]()
    for row, n in enumerate(scores.argmax(0).tolist()):
        kind = list(kinds)[n]
        score, right = float(scores[n, row]), int(kinds[kind][1][row])
        label = int(records.labels[right] if kind == CLASS else annotations.labels[row])
        box = as_box(records.boxes[right] if kind == LOCATION else annotations.boxes[row])
        if score > 0:
            best[row] = Mistake(kind, score, int(owner[row]), row, ACTIONS[kind], box, label)
    for score, row, _ in duplicates(annotations, evidence):
        before = best.get(row)
        if score > 0 and (before is None or before.kind == SPURIOUS or score > before.score):
            box, label = as_box(annotations.boxes[row]), int(annotations.labels[row])
            best[row] = Mistake(DUPLICATE, score, int(owner[row]), row, ACTIONS[DUPLICATE], box, label)
    return [*listed, *best.values()]
