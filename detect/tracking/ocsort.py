"""OC-SORT (Cao et al., 2023, arXiv 2203.14360): SORT that trusts what was seen more than what was predicted.

Three things are added to SORT. Matching also weighs whether a detection lies in the direction in which the track was
seen to move (observation-centric momentum). Tracks that got nothing are matched where they were seen last
(observation-centric recovery). When a lost track is found again, its filter is run over the missed frames once more,
along the straight line between the two boxes (observation-centric re-update).
Axes: T tracks, N detections.
"""

from __future__ import annotations

import numpy as np

from detect.registry import register
from detect.tracking.base import FRESH, LOST, VISIBLE, Tracker, assign
from detect.tracking.kalman import AreaFilter
from detect.types import Detections

LEAST = 0.3  # the least IoU of a match
INERTIA = 0.2  # the weight of direction against IoU
DELTA = 3  # frames between the two boxes that give a direction
HITS = 3  # frames in a row in which a track must be seen again before it counts


@register("tracker", "ocsort")
class OCSort(Tracker):
    """Numbers confident detections by their tracks; detections join tracks of their own class alone.

    A track counts once it was seen again in three frames in a row, and at once in the first three frames of the video.
    """

    unread = ("low", "margin", "appearance", "camera_motion")
    filter = AreaFilter()

    def _columns(self, dimensions: int) -> dict[str, tuple[int, ...]]:
        """`box` where it was seen last, `before` the boxes of the last frames (NaN: not seen), `hits` frames in a row.

        `direction` (y, x) is of length one, 0 while unknown; `seen_mean` and `seen_covariance` are those of the filter
        after it was seen last.
        """
        size = self.filter.size
        columns = {"box": (4,), "before": (DELTA, 4), "hits": (), "direction": (2,)}
        return {**columns, "seen_mean": (size,), "seen_covariance": (size, size)}

    def skip(self, frames: int) -> None:
        """See `Tracker.skip`."""
        super().skip(frames)
        for _ in range(min(frames, DELTA)):
            self._age()

    def update(self, detections: Detections, embeddings: np.ndarray | None = None) -> Detections:
        t = self.tracks
        self.frame += 1
        self._predict()
        boxes = detections.boxes.double().numpy()
        scores = detections.scores.double().numpy()
        confident = np.flatnonzero(scores >= self.confidence)
        owner, every = np.full(len(boxes), -1), np.arange(len(t))
        overlap = self._overlaps(self.filter.boxes_of(t.mean), every, detections, confident)
        momentum = self._momentum(boxes[confident]) * scores[confident]
        assign(owner, every, confident, np.where(overlap >= LEAST, overlap + INERTIA * momentum, 0))
        missed, free = every[~np.isin(every, owner)], confident[owner[confident] < 0]
        overlap = self._overlaps(t["box"][missed], missed, detections, free)
        assign(owner, missed, free, np.where(overlap >= LEAST, overlap, 0))
        gone = self._update_matched(owner, boxes)
        begun = confident[owner[confident] < 0]
        owner[begun] = len(t) + np.arange(len(begun))
        self._begin(boxes[begun], detections.labels.numpy()[begun])
        gone = np.append(gone, np.zeros(len(begun), bool))
        now = (t.state == FRESH) & (t.last == self.frame)
        self._confirm(now & ((t["hits"] >= HITS) | (self.frame <= HITS)))
        self._drop(gone, owner)
        return self._numbered(detections, owner)

    def _references(self) -> np.ndarray:
        """The boxes (T, 4) from which a direction is taken: DELTA frames ago, else later, else the last one."""
        reference = self.tracks["box"].copy()
        for seen in self.tracks["before"].transpose(1, 0, 2):
            known = ~np.isnan(seen[:, 0])
            reference[known] = seen[known]
        return reference

    def _momentum(self, boxes: np.ndarray) -> np.ndarray:
        """How well each detection (N, 4) lies in the direction of each track: (T, N) in -0.5 to 0.5; 0 if unknown."""
        direction = self.tracks["direction"]
        towards = _directions(self._references()[:, None], boxes[None])
        angle = np.arccos((direction[:, None] * towards).sum(axis=2).clip(-1, 1))
        return np.where((direction != 0).any(axis=1, keepdims=True), 0.5 - angle / np.pi, 0)

    def _update_matched(self, owner: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Update the matched tracks and mark the others as lost. Returns the mask (T,) of those lost for too long."""
        t = self.tracks
        columns = np.flatnonzero(owner >= 0)
        rows, seen = owner[columns], boxes[columns]
        t["direction"][rows] = _directions(self._references()[rows], seen)
        for row, box in zip(rows, seen, strict=True):
            if t.last[row] < self.looked:
                t.mean[row], t.covariance[row] = self._again(row, box)
        t.mean[rows], t.covariance[rows] = self.filter.correct(t.mean[rows], t.covariance[rows], seen)
        t["seen_mean"][rows], t["seen_covariance"][rows] = t.mean[rows], t.covariance[rows]
        t.last[rows], t["box"][rows] = self.frame, seen
        self._age()
        t["before"][rows, 0] = seen
        matched = np.zeros(len(t), bool)
        matched[rows] = True
        t["hits"][:] = np.where(matched, t["hits"] + 1, 0)
        numbered = np.flatnonzero(t.ids)
        t.state[numbered] = np.where(matched[numbered], VISIBLE, LOST)
        return np.asarray(self.frame - t.last > self.config.memory)

    def _age(self) -> None:
        """Move the boxes of the last frames on by a frame, of which nothing is known yet."""
        before = self.tracks["before"]
        before[:] = np.roll(before, 1, axis=1)
        before[:, 0] = np.nan

    def _again(self, row: int, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The state of a track that is found at `box`, as if it had moved evenly through the frames without it."""
        t, gap = self.tracks, self.frame - self.tracks.last[row]
        start, end = _middle_and_sides(t["box"][row]), _middle_and_sides(box)
        mean, covariance = t["seen_mean"][row : row + 1], t["seen_covariance"][row : row + 1]
        for step in range(1, gap):
            middle, sides = start + (end - start) * step / gap
            mean, covariance = self.filter.predict(mean, covariance)
            between = np.concatenate([middle - sides / 2, middle + sides / 2])
            mean, covariance = self.filter.correct(mean, covariance, between[None])
        mean, covariance = self.filter.predict(mean, covariance)
        return mean[0], covariance[0]

    def _begin(self, boxes: np.ndarray, labels: np.ndarray) -> None:
        mean, covariance = self.filter.begin(boxes)
        before = np.full((len(boxes), DELTA, 4), np.nan)
        before[:, 0] = boxes
        self.tracks.add(
            self.frame,
            mean=mean,
            covariance=covariance,
            labels=labels,
            box=boxes,
            before=before,
            hits=np.zeros(len(boxes)),
            direction=np.zeros((len(boxes), 2)),
            seen_mean=mean,
            seen_covariance=covariance,
        )


def _directions(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Directions (..., 2) of length one from the centres of boxes (..., 4) to those of others; 0 for the same place."""
    way = (end[..., :2] + end[..., 2:] - start[..., :2] - start[..., 2:]) / 2
    return way / (np.linalg.norm(way, axis=-1, keepdims=True) + 1e-6)


def _middle_and_sides(box: np.ndarray) -> np.ndarray:
    """A box (4,) as its centre and sides (2, 2)."""
    return np.stack([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])
