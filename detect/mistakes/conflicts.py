"""Near-duplicate images whose labels contradict one another: which of the two is wrong.

One of two contradicting labels is wrong for certain; the predictions for both images tell which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from detect.data.annotations import Annotations, known_sizes
from detect.data_check.copies import compared, copies
from detect.data_check.images import Seen
from detect.data_check.kinds import CONFLICT as CONTRADICTION
from detect.evaluation.coco_protocol import Records
from detect.mistakes.evidence import NEAR, SAME, Evidence, Overlaps, box_iou
from detect.mistakes.kinds import CONFLICT, Mistake
from detect.mistakes.scores import as_box


def conflicts(
    annotations: Annotations, seen: Sequence[Seen], records: Records, found: Overlaps, evidence: Evidence
) -> Iterator[Mistake]:
    """Yield the label on the wrong side of each contradiction between two near-duplicate images.

    Args:
        annotations: the labels.
        seen: the images, for finding which are alike.
        records: the predictions.
        found: the image of each prediction.
        evidence: what the predictions say.
    """
    pairs = Sides(annotations, records, found, evidence)
    for finding in compared(list(copies({"": seen})), {"": annotations}):
        twin = finding.twin
        if twin is not None and CONTRADICTION in twin.relation:
            yield from pairs.judged(finding.image, twin.image, twin.rows, twin.other_rows)


class Sides:
    """Judges labels of two images of one scene by the predictions for both."""

    def __init__(self, annotations: Annotations, records: Records, found: Overlaps, evidence: Evidence) -> None:
        self.annotations, self.records, self.image, self.evidence = annotations, records, found.image, evidence
        self.sizes = known_sizes(annotations)[:, ::-1].astype(float)

    def judged(self, i: int, j: int, rows: Sequence[int], others: Sequence[int]) -> Iterator[Mistake]:
        """Yield the mistakes of a pair.

        Args:
            i: index of the one image.
            j: index of the other.
            rows: labels of the one that the other lacks.
            others: labels of the other that the one lacks.
        """
        boxes, left = self.annotations.boxes, set(others)
        for row in rows:
            moved = self._moved(boxes[row], i, j)
            overlap = {other: float(box_iou(moved[None], boxes[other][None])[0, 0]) for other in left}
            other = max(overlap, key=lambda one: overlap[one], default=-1)
            same_class = other >= 0 and self.annotations.labels[row] == self.annotations.labels[other]
            if other >= 0 and overlap[other] >= (NEAR if same_class else SAME):
                left.discard(other)
                yield self._between(i, j, row, other, same_class)
            else:
                yield self._alone(i, j, row)
        for other in sorted(left):
            yield self._alone(j, i, other)

    def _alone(self, i: int, j: int, row: int) -> Mistake:
        """A label of image i that image j lacks: to be added there, or removed here."""
        label, box = int(self.annotations.labels[row]), self.annotations.boxes[row]
        trust = self._trust(i, j, box, label)
        score = 0.5 + abs(trust - 0.5)
        if trust >= 0.5:
            return Mistake(CONFLICT, score, j, -1, "add", as_box(self._moved(box, i, j)), label, twin=i)
        return Mistake(CONFLICT, score, i, row, "remove", as_box(box), label, twin=j)

    def _between(self, i: int, j: int, row: int, other: int, same_class: bool) -> Mistake:
        """Two labels of one object that differ in class or place: the less trusted one becomes like the other."""
        labels, boxes = self.annotations.labels, self.annotations.boxes
        if same_class:
            trust, trust_other = (self._fit(i, j, one, where) for one, where in ((row, i), (other, j)))
        else:
            trust = self._trust(i, j, boxes[row], int(labels[row]))
            trust_other = self._trust(j, i, boxes[other], int(labels[other]))
        if trust < trust_other:
            right, wrong = Mistake("", 0, j, other, "", as_box(boxes[other]), int(labels[other])), (i, row, j)
        else:
            right, wrong = Mistake("", 0, i, row, "", as_box(boxes[row]), int(labels[row])), (j, other, i)
        image, label, twin = wrong
        box = as_box(self._moved(np.array(right.box), twin, image)) if same_class else as_box(boxes[label])
        score, action = 0.5 + 0.5 * abs(trust - trust_other), "move" if same_class else "rename"
        return replace(right, kind=CONFLICT, score=score, image=image, row=label, action=action, box=box, twin=twin)

    def _moved(self, box: np.ndarray, i: int, j: int) -> np.ndarray:
        """A box of image i in pixels of image j."""
        moved: np.ndarray = box * np.tile(self.sizes[j] / self.sizes[i], 2)
        return moved

    def _trust(self, i: int, j: int, box: np.ndarray, label: int) -> float:
        """The mean support, over both images, of a label at a place of image i."""
        return float(np.mean([self._there(k, self._moved(box, i, k), label)[0] for k in (i, j)]))

    def _fit(self, i: int, j: int, row: int, where: int) -> float:
        """The mean IoU, over both images, of a label's box with the prediction at its place."""
        box, label = self.annotations.boxes[row], int(self.annotations.labels[row])
        return float(np.mean([self._there(k, self._moved(box, where, k), label)[1] for k in (i, j)]))

    def _there(self, image: int, box: np.ndarray, label: int) -> tuple[float, float]:
        """The support of the best prediction of a class at a place, and its IoU with the box; zeros without one."""
        rows = np.flatnonzero((self.image == image) & (self.records.labels == label))
        overlap = box_iou(box[None], self.records.boxes[rows])[0]
        rows, overlap = rows[overlap >= SAME], overlap[overlap >= SAME]
        if not len(rows):
            return 0.0, 0.0
        best = int(self.evidence.support[rows].argmax())
        return float(self.evidence.support[rows][best]), float(overlap[best])


def merged(listed: Sequence[Mistake], contradictions: Sequence[Mistake]) -> list[Mistake]:
    """Return all mistakes; where both lists have one about the same object, it is a contradiction, the better scored.

    Args:
        listed: mistakes that single images show.
        contradictions: those of near duplicates.
    """
    kept, found = list(listed), list[Mistake]()
    for one in contradictions:
        same = [n for n, other in enumerate(kept) if _same(one, other)]
        found.append(replace(one, score=max([one.score, *(kept[n].score for n in same)])))
        kept = [other for n, other in enumerate(kept) if n not in same]
    return [*kept, *found]


def _same(one: Mistake, other: Mistake) -> bool:
    if one.image != other.image or one.row != other.row:
        return False
    return one.row >= 0 or bool(box_iou(np.array([one.box]), np.array([other.box]))[0, 0] >= SAME)
