"""Average precision of faces as WIDER FACE measures it (Yang et al. 2016, arXiv 1511.06523), over all valid faces.

Each detection, best first, looks at the face of its image that it overlaps most, with widths and heights counted in
whole pixels: one more than the difference of the edges. If their IoU is 0.5 or more, the first detection of a valid
face is right, others are wrong, and those of an invalid face are neither. The sets easy, medium and hard, which the
benchmark publishes as .mat files, ignore more faces. Its program reads the curve at a thousand scores; this is exact.
"""

from __future__ import annotations

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_protocol import Records
from detect.evaluation.open_images import intersections, joined
from detect.evaluation.resampled_ap import ClassMatches

MATCH = 0.5  # IoU


def wider_face_matches(annotations: Annotations, records: Records) -> ClassMatches:
    """What the detections match, whatever their class. An image that `records` does not have has no detections."""
    ends = dict(zip(records.image_ids.tolist(), records.counts.cumsum().tolist(), strict=True))
    counts = dict(zip(records.image_ids.tolist(), records.counts.tolist(), strict=True))
    parts = []
    for row in np.argsort(annotations.image_ids).tolist():
        image, own = int(annotations.image_ids[row]), slice(*annotations.starts[row : row + 2].tolist())
        at = np.arange(ends.get(image, 0) - counts.get(image, 0), ends.get(image, 0))
        at = at[np.argsort(-records.scores[at], kind="stable")]
        found, counted = _matched(records.boxes[at], annotations.boxes[own], annotations.crowd[own])
        parts.append((row, records.scores[at][counted], found[counted]))
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    return joined(parts, owner[~annotations.crowd])


def _matched(boxes: np.ndarray, faces: np.ndarray, invalid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each detection (N,) of an image, best first, is right, and whether it counts."""
    right, counted, taken = np.zeros(len(boxes), bool), np.ones(len(boxes), bool), set[int]()
    if not len(faces):
        return right, counted
    wide, own = (side + np.array([0, 0, 1, 1]) for side in (boxes, faces))
    shared = intersections(wide, own)
    iou = shared / ((wide[:, 2] * wide[:, 3])[:, None] + own[:, 2] * own[:, 3] - shared)
    for n, best in enumerate(iou.argmax(1).tolist()):
        if iou[n, best] >= MATCH:
            counted[n] = not invalid[best]
            right[n] = counted[n] and best not in taken
            taken.add(best)
    return right, counted
