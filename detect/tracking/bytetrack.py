"""ByteTrack (Zhang et al., 2022): the detections of consecutive frames joined to tracks.

Sure detections are matched first, to tracks in sight and to lost ones; those too unsure to be believed alone then carry
on tracks that are still in sight. What detections look like, as vectors of length one, may have a say in the first
matching, as in BoT-SORT (Aharon et al., 2022). Axes: T tracks, N detections, D numbers of a vector, 0 without looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from anchors.boxes import iou
from detect.config.tracking import TrackConfig
from detect.tracking import kalman
from detect.types import Detections

FIRST, SECOND, NEW = 0.2, 0.5, 0.3  # the least overlap of a match: sure, unsure, and with a track seen only once
NEAR, ALIKE = 0.5, 0.25  # the least overlap, and the cosine distance, from which looks have a say
KEPT = 0.9  # of a track's looks, at each new one
SAME = 0.85  # two tracks that overlap more are one: the one that was followed for longer
FRESH, SEEN, LOST = 0, 1, 2  # begun in the frame before; in sight; not


@dataclass
class TrackStates:
    """Everything known of T tracks: filter states, labels, numbers (0: not yet confirmed), frames, what they are.

    looks (T, D) are of length one, or zero where nothing is known.
    """

    mean: np.ndarray = field(default_factory=lambda: np.zeros((0, 8)))
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 8, 8)))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    first: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    last: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    state: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    looks: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, which: np.ndarray) -> None:
        """Only these tracks."""
        for name, value in vars(self).items():
            setattr(self, name, value[which])

    def add(self, boxes: np.ndarray, labels: np.ndarray, frame: int, looks: np.ndarray) -> None:
        """New tracks at boxes (N, 4) xyxy with looks (N, D)."""
        mean, covariance = kalman.begin(boxes)
        count = np.full(len(boxes), frame)
        new = TrackStates(
            mean, covariance, labels, np.zeros_like(count), count, count, np.full_like(count, FRESH), looks
        )
        for name, value in vars(self).items():
            setattr(self, name, np.concatenate([value, getattr(new, name)]))


class ByteTrack:
    """Gives the detections of each frame the numbers of their tracks, from 1, never used twice.

    A detection of at least `sure` is believed; one that scores 0.1 more begins a track, which counts from its second
    frame on (at once in the first frame). Detections join tracks of their own class alone. `dimensions` is D.
    """

    def __init__(self, sure: float, config: TrackConfig | None = None, dimensions: int = 0) -> None:
        self.sure, self.config = sure, config or TrackConfig()
        self.tracks, self.frame, self.count = TrackStates(looks=np.zeros((0, dimensions))), 0, 0

    def update(self, found: Detections, looks: np.ndarray | None = None) -> Detections:
        """The next frame's detections: those of tracks, with `tracks` (N,) int64, best first.

        `looks` (N, D) are of length one, or zero for detections that nobody looked at.
        """
        self.looks = np.zeros((len(found), self.tracks.looks.shape[1])) if looks is None else looks
        self.frame += 1
        self._predict()
        boxes, scores = found.boxes.double().numpy(), found.scores.double().numpy()
        sure = scores >= self.sure
        owner = np.full(len(boxes), -1)  # the track of each detection
        every = np.arange(len(self.tracks))
        confirmed = every[self.tracks.state != FRESH]
        self._match(owner, found, confirmed, sure, FIRST, fused=True)
        seen = confirmed[self.tracks.state[confirmed] == SEEN]
        self._match(owner, found, seen, ~sure & (scores >= self.config.low), SECOND)
        self._match(owner, found, every[self.tracks.state == FRESH], sure, NEW, fused=True)
        gone = self._settle(owner, boxes)
        begun = np.flatnonzero(sure & (owner < 0) & (scores >= self.sure + self.config.margin))
        owner[begun] = len(self.tracks) + np.arange(len(begun))
        self.tracks.add(boxes[begun], found.labels.numpy()[begun], self.frame, self.looks[begun])
        if self.frame == 1:
            self._confirm(self.tracks.state == FRESH)
        self._forget(np.append(gone, np.zeros(len(begun), bool)) | self._doubles(), owner)
        return self._answer(found, owner)

    def _predict(self) -> None:
        t = self.tracks
        t.mean[t.state == LOST, 7] = 0  # what is out of sight does not grow or shrink
        t.mean, t.covariance = kalman.predict(t.mean, t.covariance)

    def _match(
        self,
        owner: np.ndarray,
        found: Detections,
        rows: np.ndarray,
        which: np.ndarray,
        least: float,
        fused: bool = False,
    ) -> None:
        """Give free detections of `which` (N,) to the tracks `rows` that have none, such that overlaps sum to most.

        Overlap is IoU, times the score where `fused`; less than `least`, or another class, is no match. There boxes
        that overlap by `NEAR` and look alike overlap by 1 less half the cosine distance, if that is more.
        """
        rows = rows[~np.isin(rows, owner)]
        columns = np.flatnonzero(which & (owner < 0))
        predicted = torch.from_numpy(kalman.boxes_of(self.tracks.mean[rows]))
        overlap = iou(predicted, found.boxes[columns].double()).numpy()
        if fused:
            alike = self.tracks.looks[rows] @ self.looks[columns].T
            seen = np.where((overlap > NEAR) & (alike > 1 - ALIKE), (1 + alike) / 2, 0)
            overlap = np.maximum(overlap * found.scores[columns].double().numpy(), seen)
        overlap = overlap * (self.tracks.labels[rows][:, None] == found.labels[columns].numpy())
        gain = np.maximum(overlap - least, 0)
        for r, c in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if gain[r, c] > 0:
                owner[columns[c]] = rows[r]

    def _settle(self, owner: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Tracks learn what was seen of them, and the others are lost; those lost for too long (T,)."""
        t = self.tracks
        columns = np.flatnonzero(owner >= 0)
        rows = owner[columns]
        t.mean[rows], t.covariance[rows] = kalman.correct(t.mean[rows], t.covariance[rows], boxes[columns])
        mixed = KEPT * t.looks[rows] + (1 - KEPT) * self.looks[columns]
        t.looks[rows] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True).clip(1e-12)
        t.last[rows] = self.frame
        matched = np.zeros(len(t), bool)
        matched[rows] = True
        self._confirm(matched & (t.state == FRESH))
        gone = ~matched & ((t.state == FRESH) | (self.frame - t.last > self.config.memory))
        t.state[matched], t.state[~matched] = SEEN, LOST
        return gone

    def _forget(self, gone: np.ndarray, owner: np.ndarray) -> None:
        """Drop these tracks (T,); detections point to the places of those that stay."""
        place = np.where(gone, -1, np.cumsum(~gone) - 1)
        owner[owner >= 0] = place[owner[owner >= 0]]
        self.tracks.keep(~gone)

    def _doubles(self) -> np.ndarray:
        """Of a track in sight or new and a lost one at the same place, the one that was followed for less long (T,)."""
        t, gone = self.tracks, np.zeros(len(self.tracks), bool)
        places = torch.from_numpy(kalman.boxes_of(t.mean))
        age = t.last - t.first
        for a, b in np.argwhere(iou(places, places).numpy() > SAME):
            if t.state[a] != LOST and t.state[b] == LOST and t.labels[a] == t.labels[b]:
                gone[b if age[a] > age[b] else a] = True
        return gone

    def _confirm(self, which: np.ndarray) -> None:
        number = int(which.sum())
        self.tracks.ids[which] = np.arange(self.count + 1, self.count + 1 + number)
        self.tracks.state[which] = SEEN
        self.count += number

    def _answer(self, found: Detections, owner: np.ndarray) -> Detections:
        ids = np.where(owner >= 0, np.append(self.tracks.ids, 0)[owner], 0)
        numbered = replace(found, tracks=torch.from_numpy(ids))
        order = found.scores.argsort(descending=True, stable=True)
        return numbered[order[torch.from_numpy(ids)[order] > 0]]
