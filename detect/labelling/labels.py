"""Annotations as they are handed to labelling programs: with scores, marks for a person to look at, tracks and notes.

Axes: N objects of all images, in the order of `Annotations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations, with_known_sizes
from detect.data.outlines import Outlines

REVIEW = "review"  # how every format calls the mark of an object or image that a person should look at


@dataclass(frozen=True, eq=False)
class Labels:
    """The annotations of a split, and what is known of each object besides.

    Attributes:
        annotations: images, objects and classes.
        scores: (N,) confidence of each object, 0 to 1, NaN where there is none. Default: no object has one.
        review: (N,) bool, objects that a person should look at. Default: none.
        tracks: (N,) int64, the number of each object's track, negative without one. Default: no object has one.
        notes: what to tell the person about each object, such as "class was dog", "" for nothing; N texts or none.
    """

    annotations: Annotations
    scores: np.ndarray | None = None
    review: np.ndarray | None = None
    tracks: np.ndarray | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        count = len(self.annotations.boxes)
        for name in ("scores", "review", "tracks"):
            column = getattr(self, name)
            if column is not None and np.shape(column) != (count,):
                raise ValueError(f"{name} has the shape {np.shape(column)} for {count} objects")
        if len(self.notes) not in (0, count):
            raise ValueError(f"{len(self.notes)} notes for {count} objects")

    @property
    def names(self) -> list[str]:
        """The class names."""
        return self.annotations.names

    @property
    def has_tracks(self) -> bool:
        """Whether an object belongs to a track."""
        return self.tracks is not None and bool((self.tracks >= 0).any())

    @cached_property
    def to_review(self) -> np.ndarray:
        """(I,) bool: images with an object to look at."""
        marks = np.zeros(len(self.annotations.boxes), bool) if self.review is None else np.asarray(self.review, bool)
        counts = np.concatenate([[0], np.cumsum(marks)])[self.annotations.starts]
        return np.asarray(np.diff(counts) > 0)

    def with_sizes(self) -> Labels:
        """These labels with the size of every image, read from its file where the annotations do not say it."""
        return replace(self, annotations=with_known_sizes(self.annotations))

    def objects(self, image: int) -> list[LabelObject]:
        """The objects of an image, by its index."""
        start, end = self.annotations.starts[image : image + 2].tolist()
        return [self._object(row) for row in range(start, end)]

    def _object(self, row: int) -> LabelObject:
        data = self.annotations
        outlines = None if data.outlines is None else data.outlines[row : row + 1]
        frames = None if outlines is None or outlines.frames is None else outlines.frames[0]
        corners = frames if frames is not None and np.isfinite(frames).all() else None
        score = float("nan") if self.scores is None else float(self.scores[row])
        points = None if data.keypoints is None or not data.keypoints[row].any() else data.keypoints[row]
        return LabelObject(
            row=row,
            number=int(data.ids[row]),
            label=int(data.labels[row]),
            name=data.names[data.labels[row]],
            box=tuple(data.boxes[row].tolist()),
            outline=outlines if outlines is not None and outlines.present[0] else None,
            corners=outlines.corners()[0] if outlines is not None and outlines.whole else corners,
            keypoints=points,
            crowd=bool(data.crowd[row]),
            difficult=data.difficult is not None and bool(data.difficult[row]),
            score=None if np.isnan(score) else score,
            review=self.review is not None and bool(self.review[row]),
            track=None if self.tracks is None or self.tracks[row] < 0 else int(self.tracks[row]),
            note=self.notes[row] if self.notes else "",
        )


@dataclass(frozen=True, eq=False)
class LabelObject:
    """One object of `Labels`.

    Attributes:
        row: its index among all objects.
        number: its id in the annotations.
        label, name: its class.
        box: x, y, width and height in pixels.
        outline: the `Outlines` of this object alone; None without any.
        corners: (4, 2) of an oriented box, in order around it; None where it is none.
        keypoints: (K, 3) x, y, visibility; None without any.
        crowd, difficult: as `Annotations` has them.
        score, review, track, note: as `Labels` has them; None for no score or track.
    """

    row: int
    number: int
    label: int
    name: str
    box: tuple[float, ...]
    outline: Outlines | None
    corners: np.ndarray | None
    keypoints: np.ndarray | None
    crowd: bool
    difficult: bool
    score: float | None
    review: bool
    track: int | None
    note: str

    @cached_property
    def rings(self) -> tuple[list[np.ndarray], list[bool]]:
        """The rings (V, 2) of the outline and which of them are holes; a mask is traced along its pixels."""
        return ([], []) if self.outline is None else self.outline.rings(0)

    @property
    def is_mask(self) -> bool:
        """Whether the outline is a mask of pixels, rather than polygons."""
        return self.outline is not None and len(self.outline.codes) > 0

    def pixels(self, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
        """The x and y of the first pixel of the object's window, and the pixels (h, w) bool, in an image of `size`."""
        assert self.outline is not None
        (left, top), pixels = self.outline.pixels(0, size)
        return left, top, pixels

    def marks(self) -> dict[str, Any]:
        """What is known of score, review, track and note, by name."""
        found: dict[str, Any] = {} if self.score is None else {"score": round(self.score, 5)}
        found |= {REVIEW: True} if self.review else {}
        found |= {} if self.track is None else {"track_id": self.track}
        return found | ({"note": self.note} if self.note else {})


def in_files(labels: Labels) -> Iterator[tuple[int, str, Path, tuple[int, int]]]:
    """The index, name, path and (height, width) of each image; `labels` know all sizes."""
    data = labels.annotations
    for index, (height, width) in enumerate(data.sizes.tolist()):
        yield index, data.file_name(index), data.image_path(index), (height, width)
