"""What predictions look like at labels, and where nothing is labelled: does a label lie on an object at all?

Axes: I images, N labels, D predictions.
"""

from __future__ import annotations

import numpy as np

from detect.data.annotations import Annotations, known_sizes
from detect.data.boxes import owners
from detect.evaluation.coco_protocol import Records
from detect.mistakes.calibration import PRIOR, by_class, logit
from detect.mistakes.evidence import NEAR, SAME, box_iou

APART = 0.2  # the largest IoU of a box on the background with a label
TRIES = 30


def spurious(annotations: Annotations, records: Records, images: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Return (N,) the probability that a label lies on no object.

    Each label is paired with a box of its class and size at a random place of its image that no label overlaps. A
    logistic curve for each class tells the two apart by the scores of the predictions there. A class whose objects are
    seldom found has a flat one: that nothing is predicted then proves little.

    Args:
        annotations: the labels.
        records: the predictions.
        images: (D,) the image of each.
        judged: (N,) bool, the labels to judge.
    """
    elsewhere, placed = background(annotations, judged)
    boxes, owner = np.vstack([annotations.boxes, elsewhere]), np.tile(owners(annotations), 2)
    labels, used = np.tile(annotations.labels, 2), np.concatenate([judged, placed])
    features, size = logit(best_scores(boxes, owner, labels, records, images)), len(annotations.labels)
    real = np.repeat([1.0, 0.0], size)
    share = by_class(features, real, labels, used, len(annotations.names))[:size]
    found: np.ndarray = PRIOR * (1 - share) / (PRIOR * (1 - share) + (1 - PRIOR) * share)
    return found


def background(annotations: Annotations, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a box (N, 4) of each label's size that no label of its image overlaps, and whether there is one (N,).

    Args:
        annotations: the labels; crowd regions count as labels here.
        chosen: (N,) bool, the labels that need one.
    """
    rng, owner = np.random.default_rng(0), owners(annotations)
    boxes, placed = annotations.boxes.copy(), np.zeros(len(owner), bool)
    room = np.maximum(known_sizes(annotations)[owner][:, ::-1] - boxes[:, 2:], 0)
    for row in np.flatnonzero(chosen).tolist():
        here = annotations.boxes[annotations.starts[owner[row]] : annotations.starts[owner[row] + 1]]
        tried = np.hstack([rng.random((TRIES, 2)) * room[row], np.tile(boxes[row, 2:], (TRIES, 1))])
        fits = np.flatnonzero(box_iou(tried, here).max(1) <= APART)
        if len(fits):
            boxes[row], placed[row] = tried[fits[0]], True
    return boxes, placed


def best_scores(
    boxes: np.ndarray, owner: np.ndarray, labels: np.ndarray, records: Records, images: np.ndarray
) -> np.ndarray:
    """Return (M, 3) the best scores of predictions at boxes: of their class, of any class, and of any class near them.

    Args:
        boxes: (M, 4) x, y, width, height.
        owner: (M,) their images.
        labels: (M,) their classes.
        records: the predictions.
        images: (D,) the image of each.
    """
    found = np.zeros((len(boxes), 3))
    for image in np.unique(owner).tolist():
        rows, here = np.flatnonzero(owner == image), np.flatnonzero(images == image)
        if len(here):
            overlap, scores = box_iou(boxes[rows], records.boxes[here]), records.scores[here]
            same = overlap >= SAME
            own = same & (labels[rows][:, None] == records.labels[here])
            found[rows] = np.stack([(one * scores).max(1) for one in (own, same, overlap >= NEAR)], axis=1)
    return found
