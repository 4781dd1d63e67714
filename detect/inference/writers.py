"""Where detections go: annotated pictures and videos, COCO results, YOLO text files, crops, a window."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from detect.data.alignment import aligned
from detect.data.image_writer import save_image
from detect.errors import UserError
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.video_writer import VideoWriter
from detect.results import Result
from detect.types import Detections, Frame
from detect.utils.atomic_io import replace_text
from detect.utils.names import file_names, json_text, say

PART = ".part"  # in the name of a json file of a run that was not finished
_SAVED = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})  # written as they came; others as PNG


class Sink(Protocol):
    """Takes each frame with what was found in it, and the annotated picture of it (H, W, 3) RGB.

    It is closed in any case, and told whether all frames were there.
    """

    def write(self, frame: Frame, found: Any, picture: np.ndarray) -> None: ...

    def close(self, whole: bool = True) -> None: ...


class WindowClosed(Exception):
    """The user closed the window: an end, not an error."""


def copy_suffix(name: str) -> str:
    """The suffix of the annotated copy of an image."""
    suffix = PurePosixPath(name).suffix
    return suffix if suffix.lower() in _SAVED else ".png"


class AnnotatedSink:
    """Annotated copies: an image under its own name, its pages numbered; a video, camera or stream as one NAME.mp4."""

    def __init__(self, paths: OutputPaths, rates: Mapping[str, Fraction | None]) -> None:
        self.paths, self.rates, self.clip, self.last = paths, rates, "", -1
        self.film: VideoWriter | None = None

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        if frame.time is None:
            save_image(self.paths.written.claim(self.paths.of(frame, copy_suffix(frame.name))), picture)
            return
        if self.film is None or frame.name != self.clip or frame.index <= self.last:
            self.close()
            self.clip = frame.name
            path = self.paths.written.claim(self.paths.give(frame.name, ".mp4"))
            self.film = VideoWriter(path, self.rates.get(frame.name))
        self.last = frame.index
        self.film.write(picture, frame.time)

    def close(self, whole: bool = True) -> None:
        film, self.film = self.film, None
        if film is not None:
            film.close()


class JsonSink:
    """One JSON file in the form of COCO results, in source pixels, written as it goes.

    Beside COCO's fields each record has `image` (the source's name), `category` (the class name) and, for a frame of a
    video, `frame` (its index) and `time` (seconds); for a page of a file with several, `frame` (its index).
    `image_id` counts the frames, from 1. Classes have no box. It is called NAME.part.json until the run is finished.
    """

    def __init__(self, written: OutputFolder, name: str, names: Sequence[str], category_ids: Sequence[int]) -> None:
        self.names, self.category_ids = names, category_ids
        self.path = written.claim(written.folder / name)
        self.part = written.claim(part_of(self.path))
        self.file = self.part.open("x", encoding="utf-8")
        self.file.write("[")
        self.images = self.records = 0

    def write(self, frame: Frame, found: Result, picture: np.ndarray) -> None:
        self.images += 1
        image: dict[str, Any] = {"image_id": self.images, "image": frame.name}
        if frame.time is not None:
            image |= {"frame": frame.index, "time": round(frame.time, 6)}
        elif frame.pages > 1:
            image["frame"] = frame.index
        for record in found.described(self.names, self.category_ids).records():
            self.file.write(",\n" if self.records else "\n")
            self.file.write(json_text(image | record))
            self.records += 1

    def close(self, whole: bool = True) -> None:
        with self.file:
            self.file.write("\n]\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        if whole:
            self.part.replace(self.path)
        elif not self.images:
            self.part.unlink()


class CountsSink:
    """counts.json, what `counts` gives at the end; NAME.part.json where the run did not come to its end."""

    def __init__(self, written: OutputFolder, counts: Callable[[], Any]) -> None:
        self.counts, self.path = counts, written.claim(written.folder / "counts.json")
        self.part = written.claim(part_of(self.path))

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        """The counting is done elsewhere."""

    def close(self, whole: bool = True) -> None:
        replace_text(self.path if whole else self.part, json.dumps(self.counts(), indent=1) + "\n")


def part_of(path: Path) -> Path:
    """What a json file is called as long as its run is not finished."""
    return path.with_name(f"{path.stem}{PART}{path.suffix}")


class PrintSink:
    """A line on standard output for each image, with its result; frames of videos are too many for that."""

    def write(self, frame: Frame, found: Result, picture: np.ndarray) -> None:
        if frame.time is None:
            name = f"{frame.name} [{frame.index}]" if frame.pages > 1 else frame.name
            say(f"{name}: {found.text()}")

    def close(self, whole: bool = True) -> None:
        """Nothing is held open."""


class YoloTxtSink:
    """One YOLO text file an image or frame: class, centre x and y, width, height (relative to the picture), score."""

    def __init__(self, paths: OutputPaths) -> None:
        self.paths = paths

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        height, width = frame.image.shape[:2]
        lines = []
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
            lines.append(f"{label} {x / width:.6f} {y / height:.6f} {w / width:.6f} {h / height:.6f} {score:.5f}\n")
        replace_text(self.paths.written.claim(self.paths.of(frame, ".txt")), "".join(lines), durable=False)

    def close(self, whole: bool = True) -> None:
        """Each file is closed as it is written."""


class CropSink:
    """What lies within each box, as JPEG files in a folder for each class.

    Given the mean shape (K, 2) of a landmarker, whose pictures show one thing each, it is aligned: see `Pose`.
    """

    def __init__(self, paths: OutputPaths, names: Sequence[str], shape: Sequence[Sequence[float]] = ()) -> None:
        self.paths, self.shape = paths, np.array(shape)
        self.folders = file_names(names)

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        stem = self.paths.of(frame).relative_to(self.paths.root)
        cut = self._aligned if len(self.shape) else self._boxes
        for label, (mark, image) in zip(found.labels.tolist(), cut(frame.image, found), strict=True):
            path = self.paths.root / self.folders[label] / stem
            save_image(self.paths.written.claim(path.with_name(f"{path.name}{mark}.jpg")), image)

    def _boxes(self, image: np.ndarray, found: Detections) -> Iterator[tuple[str, np.ndarray]]:
        edges = torch.cat((found.boxes[:, :2].floor(), found.boxes[:, 2:].ceil()), dim=1).int().tolist()
        for i, (left, top, right, bottom) in enumerate(edges):
            yield f"_{i}", image[top:bottom, left:right]

    def _aligned(self, image: np.ndarray, found: Detections) -> Iterator[tuple[str, np.ndarray]]:
        """The one thing, under the name of its picture; the whole picture where there is no view of it."""
        if len(found):
            view = aligned(image, found, self.shape)
            yield "", image if view is None else view

    def close(self, whole: bool = True) -> None:
        """Each file is closed as it is written."""


class WindowSink:
    """Shows the annotated pictures as they come; q, Escape or closing the window ends the work."""

    def __init__(self, title: str = "detect") -> None:
        self.title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise UserError(
                "--show needs a window, which this OpenCV cannot open: "
                "pip uninstall opencv-python-headless, then pip install opencv-python"
            ) from None

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        cv2.imshow(self.title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27) or cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
            raise WindowClosed

    def close(self, whole: bool = True) -> None:
        cv2.destroyAllWindows()
