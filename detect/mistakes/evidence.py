"""Which predictions speak for a label, which against it, and which have no label.

Axes: N labels, D predictions, P pairs of a label and a prediction that overlap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.evaluation.coco_protocol import Records
from detect.mistakes.calibration import by_class, logit

SAME, NEAR = 0.5, 0.1  # IoU of boxes of one object; least IoU of a box with the badly placed one of its object
INSIDE = 0.5  # share of a prediction in a crowd region above which it belongs to the crowd


class Overlaps(NamedTuple):
    """The pairs that overlap by an IoU of NEAR or more: label (P,), prediction (P,), iou (P,).

    `image` (D,) is the index of each prediction's image; `crowd` (D,) whether it lies in a crowd region.
    """

    label: np.ndarray
    prediction: np.ndarray
    iou: np.ndarray
    image: np.ndarray
    crowd: np.ndarray


class Evidence(NamedTuple):
    """What the predictions say.

    Attributes:
        support: (D,) the probability that the dataset has a label of this class here, given the score.
        partner: (N,) the prediction of the label's class that is matched to it, one to one; -1 for none.
        iou: (N,) IoU with it; 0 without one.
        rival: (N,) the prediction of another class at the label's place with the highest support; -1 for none.
        presence: (N,) the highest support of a prediction of any class at the label's place.
        free: (D,) bool, predictions that no label explains.
    """

    support: np.ndarray
    partner: np.ndarray
    iou: np.ndarray
    rival: np.ndarray
    presence: np.ndarray
    free: np.ndarray

    def of(self, predictions: np.ndarray) -> np.ndarray:
        """Return the support of predictions, 0 for -1."""
        return np.where(predictions >= 0, np.append(self.support, 0.0)[predictions], 0.0)


def overlaps(annotations: Annotations, records: Records) -> Overlaps:
    """Compare the predictions for each image with its labels; crowd regions are no labels."""
    place = {image: i for i, image in enumerate(annotations.image_ids.tolist())}
    owner = np.repeat([place[image] for image in records.image_ids.tolist()], records.counts).astype(np.int64)
    crowd, kept = np.zeros(len(owner), bool), objects(annotations)
    parts = [np.zeros((3, 0))]
    first = 0
    for image, count in zip(records.image_ids.tolist(), records.counts.tolist(), strict=True):
        i, found = place[image], np.arange(first, first + count)
        first += count
        rows = np.arange(annotations.starts[i], annotations.starts[i + 1])
        regions = annotations.boxes[rows[annotations.crowd[rows]]]
        crowd[found] = (shares(records.boxes[found], regions) > INSIDE).any(1)
        rows = rows[kept[rows]]
        values = box_iou(annotations.boxes[rows], records.boxes[found])
        a, b = np.nonzero(values >= NEAR)
        parts.append(np.stack([rows[a], found[b], values[a, b]]))
    label, prediction, value = np.concatenate(parts, axis=1)
    return Overlaps(label.astype(np.int64), prediction.astype(np.int64), value, owner, crowd)


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return IoU (N, M) of boxes x, y, width, height."""
    mine, theirs = (xywh_to_xyxy(torch.from_numpy(np.asarray(b, np.float64).reshape(-1, 4))) for b in (boxes, others))
    return iou(mine, theirs).numpy()


def shares(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return (N, M) the share of each box that lies in each region."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], regions[None, :, :2] + regions[None, :, 2:])
    inside: np.ndarray = (high - low).clip(min=0).prod(-1) / np.maximum(boxes[:, None, 2:].prod(-1), 1e-12)
    return inside


def weigh(annotations: Annotations, records: Records, found: Overlaps) -> Evidence:
    """Match predictions with labels, and measure how far each is to be trusted."""
    size, amount, classes = len(annotations.labels), len(records.scores), len(annotations.names)
    own = annotations.labels[found.label] == records.labels[found.prediction]
    partner, owner = np.full(size, -1), np.full(amount, -1)
    overlap = np.zeros(size)
    same = found.iou >= SAME
    _match(found, own & same, records.scores, partner, owner, overlap)
    matched = owner >= 0  # by an IoU that counts as the same place
    doubled = np.zeros(amount, bool)  # a second prediction of one object tells nothing of the first
    doubled[found.prediction[own & same]] = True
    used = matched | ~(doubled | found.crowd)
    scores = logit(records.scores)[:, None]
    support = by_class(scores, matched.astype(float), records.labels, used, classes)
    _match(found, own & ~same, records.scores, partner, owner, overlap)
    other = ~own & same & ~matched[found.prediction]
    rival = _best(found, other, support, size)
    presence = np.zeros(size)
    np.maximum.at(presence, found.label[same], support[found.prediction[same]])
    near = (partner >= 0) & (overlap < SAME)
    presence[near] = np.maximum(presence[near], support[partner[near]])
    explained = (owner >= 0) | found.crowd
    explained[found.prediction[same]] = True
    return Evidence(support, partner, overlap, rival, presence, ~explained)


def _match(
    found: Overlaps,
    allowed: np.ndarray,
    scores: np.ndarray,
    partner: np.ndarray,
    owner: np.ndarray,
    overlap: np.ndarray,
) -> None:
    """Match free labels and predictions by allowed pairs (P,), the best-scored prediction first, as COCO does.

    Args:
        found: the pairs.
        allowed: (P,) bool.
        scores: (D,).
        partner: (N,) the prediction of each label, -1 for none; filled in.
        owner: (D,) the label of each prediction, -1 for none; filled in.
        overlap: (N,) IoU of each label with its prediction; filled in.
    """
    pairs = np.flatnonzero(allowed)
    order = np.lexsort((-found.iou[pairs], found.prediction[pairs], -scores[found.prediction[pairs]]))
    for pair in pairs[order].tolist():
        label, prediction = int(found.label[pair]), int(found.prediction[pair])
        if partner[label] < 0 and owner[prediction] < 0:
            partner[label], owner[prediction], overlap[label] = prediction, label, found.iou[pair]


def _best(found: Overlaps, allowed: np.ndarray, support: np.ndarray, size: int) -> np.ndarray:
    """The prediction with the highest support among the allowed pairs of each label (N,), -1 for none."""
    best, pairs = np.full(size, -1), np.flatnonzero(allowed)
    order = pairs[np.argsort(support[found.prediction[pairs]], kind="stable")]
    best[found.label[order]] = found.prediction[order]  # the last one, which is the highest, stays
    return best
