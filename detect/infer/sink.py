"""Where detections go: annotated pictures and videos, COCO results, YOLO text files, crops, a window."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from detect.align import aligned
from detect.errors import UserError
from detect.infer.film import Film
from detect.names import file_names, json_text, say
from detect.types import Classes, Detections, Frame

ANSWERS = {Detections: "detections.json", Classes: "classes.json"}  # what is written, by what an answer is
_SAVED = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})  # written as they came; others as PNG
_SUFFIX = re.compile(r"\.\w*[A-Za-z]\w*$")
_UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f]')  # in file names, on one system or another


class Sink(Protocol):
    """Takes each frame with what was found in it, and the annotated picture of it (H, W, 3) RGB."""

    def write(self, frame: Frame, found: Any, picture: np.ndarray) -> None: ...

    def close(self) -> None: ...


class Stop(Exception):
    """The user closed the window: an end, not an error."""


class Paths:
    """File names under `root` after the names of frames: distinct, and never a source itself."""

    def __init__(self, root: Path, sources: Iterable[Path] = ()) -> None:
        self.root, self.clip, self.stem = root, "", root
        self.taken = {path.resolve() for path in sources}

    def give(self, name: str, suffix: str) -> Path:
        """A path not given before, for a frame's name (its folders stay, its suffix does not) and a suffix."""
        parts = PurePosixPath(_SUFFIX.sub("", name)).parts
        stem = self.root.joinpath(*(_UNSAFE.sub("_", part) for part in parts if part not in ("/", "..")))
        path, count = stem.with_name(stem.name + suffix), 1
        while path.resolve() in self.taken:
            count += 1
            path = stem.with_name(f"{stem.name}-{count}{suffix}")
        self.taken.add(path.resolve())
        return path

    def of(self, frame: Frame) -> Path:
        """A path without suffix for one frame: those of a video share what was given once, and add their index."""
        if frame.time is None:
            return self.give(frame.name, "")
        if frame.name != self.clip or frame.index == 0:
            self.clip, self.stem = frame.name, self.give(frame.name, "")
        return self.stem.with_name(f"{self.stem.name}_{frame.index:06d}")


def save_image(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image in the format of the path's suffix, in a folder made for it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(data.tobytes())


class Pictures:
    """Annotated copies: an image under its own name, a video, camera or stream as one NAME.mp4."""

    def __init__(self, paths: Paths, rates: Mapping[str, Fraction | None]) -> None:
        self.paths, self.rates, self.clip = paths, rates, ""
        self.film: Film | None = None

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        if frame.time is None:
            suffix = PurePosixPath(frame.name).suffix
            save_image(self.paths.give(frame.name, suffix if suffix.lower() in _SAVED else ".png"), picture)
            return
        if self.film is None or frame.name != self.clip or frame.index == 0:
            self.close()
            self.clip = frame.name
            self.film = Film(self.paths.give(frame.name, ".mp4"), self.rates.get(frame.name))
        self.film.write(picture, frame.time)

    def close(self) -> None:
        film, self.film = self.film, None
        if film is not None:
            film.close()


class Results:
    """One JSON file in the form of COCO results, in source pixels; written as it goes, named when it is whole.

    Beside COCO's fields each record has `image` (the source's name), `category` (the class name) and, for a frame
    of a video, `frame` (its index) and `time` (seconds). `image_id` counts the frames, from 1. Classes have no box.
    """

    def __init__(self, path: Path, names: Sequence[str], category_ids: Sequence[int]) -> None:
        self.path, self.names, self.category_ids = path, names, category_ids
        self.part = path.with_name(path.name + ".part")
        self.file = self.part.open("w", encoding="utf-8")
        self.file.write("[")
        self.images = self.records = 0

    def write(self, frame: Frame, found: Detections | Classes, picture: np.ndarray) -> None:
        self.images += 1
        for i in range(len(found)):
            self.file.write(",\n" if self.records else "\n")
            self.file.write(json_text(self._record(frame, found, i)))
            self.records += 1

    def _record(self, frame: Frame, found: Detections | Classes, i: int) -> dict[str, Any]:
        label, score = int(found.labels[i]), round(float(found.scores[i]), 5)
        record: dict[str, Any] = {"image_id": self.images, "image": frame.name}
        if frame.time is not None:
            record |= {"frame": frame.index, "time": round(frame.time, 6)}
        record |= {"category_id": self.category_ids[label], "category": self.names[label]}
        if isinstance(found, Classes):
            return record | {"score": score}
        left, top, right, bottom = found.boxes[i].tolist()
        record |= {"bbox": [round(v, 3) for v in (left, top, right - left, bottom - top)], "score": score}
        if found.points is not None:
            record["keypoints"] = [round(v, 3) for v in found.points[i].flatten().tolist()]
        if found.tracks is not None:
            record["track_id"] = int(found.tracks[i])
        return record

    def close(self) -> None:
        with self.file:
            self.file.write("\n]\n")
        self.part.replace(self.path)


class Lines:
    """A line on standard output for each picture, with its classes; frames of videos are too many for that."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def write(self, frame: Frame, found: Classes, picture: np.ndarray) -> None:
        if frame.time is None:
            pairs = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
            say(f"{frame.name}: " + ", ".join(f"{self.names[label]} {score:.2f}" for label, score in pairs))

    def close(self) -> None:
        """Nothing is held open."""


class Labels:
    """One YOLO text file an image or frame: class, centre x and y, width, height (relative to the picture), score."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        height, width = frame.image.shape[:2]
        lines = []
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
            lines.append(f"{label} {x / width:.6f} {y / height:.6f} {w / width:.6f} {h / height:.6f} {score:.5f}\n")
        stem = self.paths.of(frame)
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_name(stem.name + ".txt").write_text("".join(lines), encoding="utf-8")

    def close(self) -> None:
        """Each file is closed as it is written."""


class Crops:
    """What lies within each box, as JPEG files in a folder for each class.

    Given the mean shape (K, 2) of a landmarker, whose pictures show one thing each, it is aligned: see `Pose`.
    """

    def __init__(self, paths: Paths, names: Sequence[str], shape: Sequence[Sequence[float]] = ()) -> None:
        self.paths, self.shape = paths, np.array(shape)
        self.folders = file_names(names)

    def write(self, frame: Frame, found: Detections, picture: np.ndarray) -> None:
        stem = self.paths.of(frame).relative_to(self.paths.root)
        cut = self._aligned if len(self.shape) else self._boxes
        for label, (mark, image) in zip(found.labels.tolist(), cut(frame.image, found), strict=True):
            path = self.paths.root / self.folders[label] / stem
            save_image(path.with_name(f"{path.name}{mark}.jpg"), image)

    def _boxes(self, image: np.ndarray, found: Detections) -> Iterator[tuple[str, np.ndarray]]:
        edges = torch.cat((found.boxes[:, :2].floor(), found.boxes[:, 2:].ceil()), dim=1).int().tolist()
        for i, (left, top, right, bottom) in enumerate(edges):
            yield f"_{i}", image[top:bottom, left:right]

    def _aligned(self, image: np.ndarray, found: Detections) -> Iterator[tuple[str, np.ndarray]]:
        """The one thing, under the name of its picture; the whole picture where there is no view of it."""
        if len(found):
            view = aligned(image, found, self.shape)
            yield "", image if view is None else view

    def close(self) -> None:
        """Each file is closed as it is written."""


class Window:
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
            raise Stop

    def close(self) -> None:
        cv2.destroyAllWindows()
