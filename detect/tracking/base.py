"""What trackers share: the table of their tracks, the matching of tracks with detections, and the numbers they give.

Axes: T tracks, N detections, D values of an embedding, 0 without embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from anchors.boxes import iou
from detect.config.tracking import TrackConfig
from detect.tracking.kalman import BoxFilter
from detect.types import Detections

FRESH, VISIBLE, LOST = 0, 1, 2  # the states of a track; a fresh one is not confirmed yet
FARTHEST = 300  # frames without a look over which tracks are predicted; after more than that, the stream was away


class Tracks:
    """A table of T tracks: columns with a row for each.

    Every table has mean (T, S) and covariance (T, S, S), those of the Kalman filter; labels (T,); ids (T,) the numbers
    of tracks, 0 before they are confirmed; first and last (T,) the frames in which they were seen; state (T,) FRESH,
    VISIBLE or LOST. A tracker adds columns of its own.

    Args:
        size: S, the numbers of a state.
        own: the shape of a row of each further column, by name.
    """

    def __init__(self, size: int, own: Mapping[str, tuple[int, ...]]) -> None:
        self.mean, self.covariance = np.zeros((0, size)), np.zeros((0, size, size))
        self.labels, self.ids, self.first, self.last, self.state = (np.zeros(0, np.int64) for _ in range(5))
        self.own = {name: np.zeros((0, *shape)) for name, shape in own.items()}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> np.ndarray:
        """A further column."""
        return self.own[name]

    def keep(self, which: np.ndarray) -> None:
        """Drop all but the tracks of a mask (T,)."""
        for columns in (vars(self), self.own):
            columns.update({name: value[which] for name, value in columns.items() if isinstance(value, np.ndarray)})

    def add(self, frame: int, **rows: np.ndarray) -> None:
        """Add fresh tracks: the N rows of mean, covariance, labels and the further columns."""
        count = np.full(len(rows["mean"]), frame)
        rows |= {"ids": 0 * count, "first": count, "last": count, "state": np.full_like(count, FRESH)}
        for columns in (vars(self), self.own):
            columns.update({name: np.concatenate([columns[name], rows[name]]) for name in rows if name in columns})


class Tracker:
    """Base of trackers: numbers the detections of each frame by their tracks, from 1 on; a number is used once.

    Any tracker has this constructor, `update` and `active`; a plugin need not inherit from this class. One that has
    `skip` is told of frames that are not predicted.

    `frame` counts the frames of the video, skipped ones too; `looked` is the last one that had an update.

    Args:
        confidence: least score of a confident detection.
        config: the options of tracking.
        dimensions: D, the length of the embeddings that `update` is given; 0: none.
    """

    uses_image: ClassVar[bool] = False  # whether `update` takes the image of the frame as a third argument
    unread: ClassVar[tuple[str, ...]] = ()  # the options of tracking that it does not read
    filter: ClassVar[BoxFilter]

    def __init__(self, confidence: float, config: TrackConfig | None = None, dimensions: int = 0) -> None:
        self.confidence, self.config = confidence, config or TrackConfig()
        self.tracks, self.count = Tracks(self.filter.size, self._columns(dimensions)), 0
        self.frame = self.looked = 0

    def _columns(self, dimensions: int) -> dict[str, tuple[int, ...]]:
        """The further columns of its table of tracks: the shape of a row by name."""
        return {}

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
        raise NotImplementedError

    def skip(self, frames: int) -> None:
        """Pass over frames that are not predicted: tracks move on, and those that were lost before grow older.

        A track that the last update saw may be found again however many frames were skipped: nobody missed it.
        """
        self.frame += frames
        for _ in range(min(frames, FARTHEST)):
            self._predict()
        missed = self.tracks.last < self.looked
        self.tracks.keep(~(missed & (self.frame - self.tracks.last > self.config.memory)))

    def _predict(self) -> None:
        """Move the tracks on by a frame."""
        self.tracks.mean, self.tracks.covariance = self.filter.predict(self.tracks.mean, self.tracks.covariance)

    def _overlaps(self, boxes: np.ndarray, rows: np.ndarray, detections: Detections, columns: np.ndarray) -> np.ndarray:
        """IoU (R, C) of a box (R, 4) for each of the tracks `rows` with detections; 0 where the class is another."""
        overlap = iou(torch.from_numpy(boxes), detections.boxes[columns].double()).numpy()
        return np.where(self.tracks.labels[rows][:, None] == detections.labels[columns].numpy(), overlap, 0)

    def _confirm(self, which: np.ndarray) -> None:
        """Give numbers to the tracks of a mask (T,)."""
        number = int(which.sum())
        self.tracks.ids[which] = np.arange(self.count + 1, self.count + 1 + number)
        self.tracks.state[which] = VISIBLE
        self.count += number

    def _drop(self, gone: np.ndarray, owner: np.ndarray) -> None:
        """Drop the tracks of a mask (T,), and renumber the `owner` (N,) of each detection."""
        place = np.where(gone, -1, np.cumsum(~gone) - 1)
        owner[owner >= 0] = place[owner[owner >= 0]]
        self.tracks.keep(~gone)

    def _numbered(self, detections: Detections, owner: np.ndarray) -> Detections:
        self.looked = self.frame
        ids = np.where(owner >= 0, np.append(self.tracks.ids, 0)[owner], 0)
        numbered = replace(detections, tracks=torch.from_numpy(ids))
        order = detections.scores.argsort(descending=True, stable=True)
        return numbered[order[torch.from_numpy(ids)[order] > 0]]


def assign(owner: np.ndarray, rows: np.ndarray, columns: np.ndarray, gain: np.ndarray) -> None:
    """Match tracks with detections for the greatest sum of gains (Hungarian method); a gain of 0 or less is no match.

    Args:
        owner: (N,) the track of each detection, -1 without; changed in place.
        rows: (R,) the tracks.
        columns: (C,) the detections.
        gain: (R, C).
    """
    gain = np.maximum(gain, 0)
    r, c = linear_sum_assignment(gain, maximize=True)
    matched = gain[r, c] > 0
    owner[columns[c[matched]]] = rows[r[matched]]
