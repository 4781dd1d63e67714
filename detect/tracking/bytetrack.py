"""ByteTrack (Zhang et al., 2022): joins the detections of consecutive frames to tracks.

Confident detections are matched first, to visible tracks and to lost ones; unconfident ones then carry on visible
tracks that got none. Embeddings of length one may help the first matching, as in BoT-SORT (Aharon et al., 2022).
Axes: T tracks, N detections, D values of an embedding, 0 without embeddings.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from anchors.boxes import iou
from detect.registry import register
from detect.tracking.base import FRESH, LOST, VISIBLE, Tracker, assign
from detect.tracking.kalman import AspectFilter, BoxFilter
from detect.types import Detections

# The least overlap of a match with a confident detection, with an unconfident one, and with a track seen only once.
FIRST, SECOND, NEW = 0.2, 0.5, 0.3
NEAR, ALIKE = 0.5, 0.25  # embeddings count from this overlap on, up to this cosine distance
KEPT = 0.9  # share of a track's embedding that each new one leaves
SAME = 0.85  # of two tracks that overlap more, the one tracked for longer stays


@register("tracker", "bytetrack")
class ByteTrack(Tracker):
    """Numbers the detections of each frame by their tracks, from 1 on; a number is never used twice.

    A track begins with a detection that scores `config.margin` above `confidence`, and counts from its second frame on
    (at once in the first frame of the video). Detections join tracks of their own class alone.
    """

    unread: ClassVar[tuple[str, ...]] = ("camera_motion",)
    filter: ClassVar[BoxFilter] = AspectFilter()
    sizes: ClassVar[tuple[int, ...]] = (7,)  # the changes of size in a state, which a lost track has not

    def _columns(self, dimensions: int) -> dict[str, tuple[int, ...]]:
        return {"embeddings": (dimensions,)}

    def update(self, detections: Detections, embeddings: np.ndarray | None = None) -> Detections:
        if embeddings is None:
            embeddings = np.zeros((len(detections), self.tracks["embeddings"].shape[1]))
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
        mean, covariance = self.filter.begin(boxes[begun])
        labels, embeddings = detections.labels.numpy()[begun], self.embeddings[begun]
        self.tracks.add(self.frame, mean=mean, covariance=covariance, labels=labels, embeddings=embeddings)
        if self.frame == 1:
            self._confirm(self.tracks.state == FRESH)
        self._drop(np.append(gone, np.zeros(len(begun), bool)) | self._duplicates(), owner)
        return self._numbered(detections, owner)

    def _predict(self) -> None:
        t = self.tracks
        t.mean[np.ix_(t.state == LOST, self.sizes)] = 0
        super()._predict()

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
        overlap = self._overlaps(self.filter.boxes_of(self.tracks.mean[rows]), rows, detections, columns)
        if fused:
            alike = self.tracks["embeddings"][rows] @ self.embeddings[columns].T
            seen = np.where((overlap > NEAR) & (alike > 1 - ALIKE), (1 + alike) / 2, 0)
            overlap = np.maximum(overlap * detections.scores[columns].double().numpy(), seen)
        assign(owner, rows, columns, overlap - least)

    def _update_matched(self, owner: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Update the matched tracks and mark the others as lost. Returns the mask (T,) of those lost for too long."""
        t = self.tracks
        columns = np.flatnonzero(owner >= 0)
        rows = owner[columns]
        t.mean[rows], t.covariance[rows] = self.filter.correct(t.mean[rows], t.covariance[rows], boxes[columns])
        mixed = KEPT * t["embeddings"][rows] + (1 - KEPT) * self.embeddings[columns]
        t["embeddings"][rows] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True).clip(1e-12)
        t.last[rows] = self.frame
        matched = np.zeros(len(t), bool)
        matched[rows] = True
        self._confirm(matched & (t.state == FRESH))
        gone = ~matched & ((t.state == FRESH) | (self.frame - t.last > self.config.memory))
        t.state[matched], t.state[~matched] = VISIBLE, LOST
        return gone

    def _duplicates(self) -> np.ndarray:
        """The mask (T,) of duplicates: of a lost track and another one at the same place, the one that is younger."""
        t, gone = self.tracks, np.zeros(len(self.tracks), bool)
        places = torch.from_numpy(self.filter.boxes_of(t.mean))
        age = t.last - t.first
        for a, b in np.argwhere(iou(places, places).numpy() > SAME):
            if t.state[a] != LOST and t.state[b] == LOST and t.labels[a] == t.labels[b]:
                gone[b if age[a] > age[b] else a] = True
        return gone
