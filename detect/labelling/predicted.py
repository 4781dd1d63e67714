"""Predictions as labels: what is accepted, what a person is asked about, what is dropped.

Axes: C classes.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from detect.data import rle
from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.image_writer import save_image
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco
from detect.errors import UserError
from detect.inference.source import ImagePart, Source
from detect.labelling.labels import Labels
from detect.labelling.writer import Images, place
from detect.masks import RleMasks
from detect.types import Detections, Frame
from detect.utils.names import file_names

if TYPE_CHECKING:
    from detect.models.base import ModelMetadata

SEEN = 0.5  # probability from which a predicted keypoint becomes a visible one


@dataclass(frozen=True)
class Bands:
    """Thresholds of each class (C,): from `accept` on objects are accepted, from `ask` on a person is asked."""

    accept: np.ndarray
    ask: np.ndarray


@dataclass
class PredictedLabels:
    """Takes the result of each image; `labels` gives all of them.

    Args:
        source: what is read. Images that are files of one page stay where they are; others are written.
        folder: where images are written.
        images: how files of images get into `folder` if others are written there: "copy", or else as links.
        names: class names by label.
        metadata: of the model: category ids and keypoints.
        bands: thresholds by class.
        limit: most detections of an image; `full` counts the images that have as many objects.
        simplify: largest distance, in pixels, of a simplified polygon from the outline of a mask; 0: the mask itself.
    """

    source: Source
    folder: Path
    images: Images
    names: list[str]
    metadata: ModelMetadata
    bands: Bands
    limit: int
    simplify: float = 0.0
    accepted: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    full: int = 0

    def __post_init__(self) -> None:
        parts = [part for part in self.source.parts if isinstance(part, ImagePart) and isinstance(part.image, Path)]
        self.files = {part.name: Path(os.path.abspath(part.image)) for part in parts}
        plain = len(parts) == len(self.source.parts) and all(part.count == 1 for part in parts)
        if len(self.files) < len(parts):
            raise UserError("two images of the source have the same name; give one folder that holds both")
        self.root = self._shared() if plain else self.folder
        self.records, self.objects = list[dict[str, Any]](), list[dict[str, Any]]()
        self.scores, self.review, self.tracks = list[float](), list[bool](), list[int]()
        self.taken, self.numbers = set(self.files), dict[tuple[str, int], int]()

    def _shared(self) -> Path:
        """The folder to which the names of all images are relative."""
        name, path = next(iter(self.files.items()))
        return Path(*path.parts[: len(path.parts) - len(PurePosixPath(name).parts)])

    def add(self, frame: Frame, result: Detections) -> None:
        """Take the result of one image, and write the image if it has no file of its own."""
        height, width = frame.image.shape[:2]
        image_id = len(self.records) + 1
        name = self._file(frame)
        self.records.append({"id": image_id, "file_name": name, "width": width, "height": height})
        described = result.described(self.names, self.metadata.category_ids)
        labels, before = described.labels.tolist(), len(self.scores)
        for row, (label, record) in enumerate(zip(labels, described.records(), strict=True)):
            if record["score"] < self.bands.ask[label] or min(record["bbox"][2:]) <= 0:
                self.dropped += 1
                continue
            review = bool(record["score"] < self.bands.accept[label])
            (self.asked if review else self.accepted)[self.names[label]] += 1
            self.scores.append(record["score"])
            self.review.append(review)
            track = record.get("track_id")
            self.tracks.append(-1 if track is None else self._track(frame, track))
            self.objects.append(self._object(record, described, row, image_id))
        self.full += len(self.scores) - before >= self.limit

    def _track(self, frame: Frame, track: int) -> int:
        """The number of a track among those of all videos."""
        image_of_folder = frame.time is None and frame.pages == 1
        video = str(PurePosixPath(frame.name).parent) if image_of_folder else frame.name
        return self.numbers.setdefault((video, track), len(self.numbers) + 1)

    def _file(self, frame: Frame) -> str:
        """The name of the image below `root`."""
        file = self.files.get(frame.name)
        if self.root != self.folder and file is not None:
            return frame.name
        if file is not None and frame.pages == 1:
            place(file, self.folder / frame.name, "copy" if self.images == "copy" else "link")
            return frame.name
        stem = "/".join(
            file_names([part])[0] for part in PurePosixPath(frame.name).with_suffix("").parts if part != "/"
        )
        name, count = f"{stem}_{frame.index:06d}", 1
        suffix = ".png" if frame.time is None else ".jpg"
        while f"{name}{suffix}" in self.taken:
            count += 1
            name = f"{stem}_{frame.index:06d}-{count}"
        self.taken.add(f"{name}{suffix}")
        save_image(self.folder / f"{name}{suffix}", frame.image)
        return f"{name}{suffix}"

    def _object(self, record: dict[str, Any], result: Detections, row: int, image_id: int) -> dict[str, Any]:
        """The COCO record of a detection."""
        found = {key: record[key] for key in ("category_id", "bbox")} | {"image_id": image_id, "id": len(self.scores)}
        if "corners" in record:
            found |= {"corners": record["corners"], "segmentation": [np.ravel(record["corners"]).tolist()]}
        if isinstance(result.masks, RleMasks):
            found["segmentation"] = polygons(result.masks, row, self.simplify) or record["segmentation"]
        if "keypoints" in record:
            points = np.reshape(record["keypoints"], (-1, 3))
            points = np.where(points[:, 2:] >= SEEN, points * [1, 1, 0] + [0, 0, 2], 0.0)
            found["keypoints"] = points.ravel().tolist()
        return found

    def labels(self) -> Labels:
        """The labels of all images so far."""
        points = [[a + 1, b + 1] for a, b in self.metadata.skeleton]
        shape = {"keypoints": self.metadata.keypoint_names, "skeleton": points} if self.metadata.keypoint_names else {}
        pairs = zip(self.metadata.category_ids, self.names, strict=True)
        categories = [{"id": number, "name": name} | shape for number, name in pairs]
        content = {"images": self.records, "annotations": self.objects, "categories": categories}
        inside = Roots(self.root, anywhere=True)
        found: Annotations = from_coco(content, self.root, self.root, BadRecords(self.root, False), inside=inside)
        tracks = np.array(self.tracks, np.int64)
        return Labels(
            found,
            scores=np.array(self.scores, np.float64),
            review=np.array(self.review, bool),
            tracks=tracks if (tracks >= 0).any() else None,
        )


def polygons(masks: RleMasks, row: int, tolerance: float) -> list[list[float]]:
    """The outline of a mask as polygons that stay within `tolerance` pixels of it; nothing for one with holes.

    Nothing, too, where the tolerance is 0.
    """
    if not tolerance:
        return []
    left, top, pixels = masks.window(row)
    rings, holes = rle.trace(pixels)
    if any(holes):
        return []
    found = []
    for ring in rings:
        short = cv2.approxPolyDP(ring.astype(np.float32), tolerance, True)[:, 0]
        ring = short if len(short) > 2 else ring
        found.append((ring + np.array([left, top])).ravel().tolist())
    return found
