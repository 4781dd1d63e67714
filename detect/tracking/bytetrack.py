"""ByteTrack (Zhang et al., 2022): joins the detections of consecutive frames to tracks.

Confident detections are matched first, to visible tracks and to lost ones; unconfident ones then carry on visible
tracks that got none. Embeddings of length one may help the first matching, as in BoT-SORT (Aharon et al., 2022).
Axes: T tracks, N detections, D values of an embedding, 0 without embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from anchors.boxes import iou
from detect.config.tracking import TrackConfig
from detect.registry import register
from detect.tracking import kalman
from detect.types import Detections

# The least overlap of a match with a confident detection, with an unconfident one, and with a track seen only once.
FIRST, SECOND, NEW = 0.2, 0.5, 0.3
NEAR, ALIKE = 0.5, 0.25  # embeddings count from this overlap on, up to this cosine distance
KEPT = 0.9  # share of a track's embedding that each new one leaves
SAME = 0.85  # of two tracks that overlap more, the one tracked for longer stays
FRESH, VISIBLE, LOST = 0, 1, 2  # the states of a track; a fresh one began in the frame before


@dataclass
class TrackStates:
    """The state of T tracks.

    mean (T, 8) and covariance (T, 8, 8) are those of the Kalman filter; labels (T,); ids (T,) the numbers of tracks, 0
    before they are confirmed; first and last (T,) the frames in which they were seen; state (T,) FRESH, VISIBLE or
    LOST; embeddings (T, D) of length one, or zero where there is none yet.
    """

    mean: np.ndarray = field(default_factory=lambda: np.zeros((0, 8)))
    covariance: np.ndarray = field(default_factory=lambda: np.zeros((0, 8, 8)))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    first: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    last: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    state: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    embeddings: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, which: np.ndarray) -> None:
        """Drop all but the tracks of a mask (T,)."""
        for name, value in vars(self).items():
            setattr(self, name, value[which])

    def add(self, boxes: np.ndarray, labels: np.ndarray, frame: int, embeddings: np.ndarray) -> None:
        """Add fresh tracks at boxes (N, 4) xyxy with embeddings (N, D)."""
        mean, covariance = kalman.begin(boxes)
        count = np.full(len(boxes), frame)
        new = TrackStates(
            mean, covariance, labels, np.zeros_like(count), count, count, np.full_like(count, FRESH), embeddings
        )
        for name, value in vars(self).items():
            setattr(self, name, np.concatenate([value, getattr(new, name)]))


@register("tracker", "bytetrack")
class ByteTrack:
    """Numbers the detections of each frame by their tracks, from 1 on; a number is never used twice.

    Any tracker has this constructor, `update` and `active`. Here a track begins with a detection that scores
    `config.margin` above `confidence`, and counts from its second frame on (at once in the first frame of the video).
    Detections join tracks of their own class alone.

    Args:
        confidence: least score of a confident detection.
        config: the options of tracking.
        dimensions: D, the length of the embeddings that `update` is given; 0: none.
    """

    def __init__(self, confidence: float, config: TrackConfig | None = None, dimensions: int = 0) -> None:
        self.confidence, self.config = confidence, config or TrackConfig()
        self.tracks, self.frame, self.count = TrackStates(embeddings=np.zeros((0, dimensions))), 0, 0

    @property
    def active(self) -> set[int]:
        """The numbers of the tracks that may go on."""
        return set(self.tracks.ids.tolist())

    def update(self, detections: Detections, embeddings: np.ndarray | None = None) -> Detections:
        """Take the detections of the next frame.

        Args:
            detections: all of the frame, N.
            embeddings: (N, D) of length one, or zero for detections without.

        Returns:
            The detections that belong to tracks, with the numbers of these in `tracks` (N,) int64, by descending score.
        """
        if embeddings is None:
            embeddings = np.zeros((len(detections), self.tracks.embeddings.shape[1]))
        self.embeddings = embeddings
        self.frame += 1
        self._predict()
        boxes, scores = detections.boxes.double().numpy(), detections.scores.double().numpy()
        confident = scores >= self.confidence
        owner = np.full(len(boxes), -1)  # the track of each detection
        every = np.arange(len(self.tracks))
        confirmed = every[self.tracks.state != FRESH]
        self._match(owner, detections, confirmed, confident, FIRST, fused=True)
        seen = confirmed[self.tracks.state[confirmed] == VISIBLE]
        self._match(owner, detections, seen, ~confident & (scores >= self.config.low), SECOND)
        self._match(owner, detections, every[self.tracks.state == FRESH], confident, NEW, fused=True)
        gone = self._update_matched(owner, boxes)
        begun = np.flatnonzero(confident & (owner < 0) & (scores >= self.confidence + self.config.margin))
        owner[begun] = len(self.tracks) + np.arange(len(begun))
        self.tracks.add(boxes[begun], detections.labels.numpy()[begun], self.frame, self.embeddings[begun])
        if self.frame == 1:
            self._confirm(self.tracks.state == FRESH)
        self._drop(np.append(gone, np.zeros(len(begun), bool)) | self._duplicates(), owner)
        return self._numbered(detections, owner)

    def _predict(self) -> None:
        t = self.tracks
        t.mean[t.state == LOST, 7] = 0  # the height of a lost track does not change
        t.mean, t.covariance = kalman.predict(t.mean, t.covariance)

    def _match(
        self,
        owner: np.ndarray,
        detections: Detections,
        rows: np.ndarray,
        which: np.ndarray,
        least: float,
        fused: bool = False,
    ) -> None:
        """Match the unmatched among `which` (N,) with the unmatched tracks `rows`, for the greatest sum of overlaps.

        Overlap is IoU. Where `fused` it is IoU times score; for boxes that overlap by NEAR and are ALIKE it is 1 less
        half the cosine distance of their embeddings, if that is more. Less than `least`, or another class, is no match.
        """
        rows = rows[~np.isin(rows, owner)]
        columns = np.flatnonzero(which & (owner < 0))
        predicted = torch.from_numpy(kalman.boxes_of(self.tracks.mean[rows]))
        overlap = iou(predicted, detections.boxes[columns].double()).numpy()
        if fused:
            alike = self.tracks.embeddings[rows] @ self.embeddings[columns].T
            seen = np.where((overlap > NEAR) & (alike > 1 - ALIKE), (1 + alike) / 2, 0)
            overlap = np.maximum(overlap * detections.scores[columns].double().numpy(), seen)
        overlap = overlap * (self.tracks.labels[rows][:, None] == detections.labels[columns].numpy())
        gain = np.maximum(overlap - least, 0)
        for r, c in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if gain[r, c] > 0:
                owner[columns[c]] = rows[r]

    def _update_matched(self, owner: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Update the matched tracks and mark the others as lost. Returns the mask (T,) of those lost for too long."""
        t = self.tracks
        columns = np.flatnonzero(owner >= 0)
        rows = owner[columns]
        t.mean[rows], t.covariance[rows] = kalman.correct(t.mean[rows], t.covariance[rows], boxes[columns])
        mixed = KEPT * t.embeddings[rows] + (1 - KEPT) * self.embeddings[columns]
        t.embeddings[rows] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True).clip(1e-12)
        t.last[rows] = self.frame
        matched = np.zeros(len(t), bool)
        matched[rows] = True
        self._confirm(matched & (t.state == FRESH))
        gone = ~matched & ((t.state == FRESH) | (self.frame - t.last > self.config.memory))
        t.state[matched], t.state[~matched] = VISIBLE, LOST
        return gone

    def _drop(self, gone: np.ndarray, owner: np.ndarray) -> None:
        """Drop the tracks of a mask (T,), and renumber the `owner` (N,) of each detection."""
        place = np.where(gone, -1, np.cumsum(~gone) - 1)
        owner[owner >= 0] = place[owner[owner >= 0]]
        self.tracks.keep(~gone)

    def _duplicates(self) -> np.ndarray:
        """The mask (T,) of duplicates: of a lost track and another one at the same place, the one that is younger."""
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
        self.tracks.state[which] = VISIBLE
        self.count += number

    def _numbered(self, detections: Detections, owner: np.ndarray) -> Detections:
        ids = np.where(owner >= 0, np.append(self.tracks.ids, 0)[owner], 0)
        numbered = replace(detections, tracks=torch.from_numpy(ids))
        order = detections.scores.argsort(descending=True, stable=True)
        return numbered[order[torch.from_numpy(ids)[order] > 0]]
