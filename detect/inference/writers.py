"""Sinks of `detect predict`: annotated images and videos, counts, YOLO text files, label images, a window."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch

from detect.data.image_writer import save_image
from detect.errors import UserError
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.result_writers import part_of
from detect.inference.sink import Sink
from detect.inference.video_writer import VideoWriter
from detect.inference.yolo_rows import yolo_rows
from detect.masks import RleMasks
from detect.results import Result
from detect.semantic import SemanticMap
from detect.types import Detections, Frame
from detect.utils.atomic_io import replace_text
from detect.utils.names import say

_SAVED = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})  # formats that copies keep; others: PNG


class WindowClosed(Exception):
    """The user closed the window: the run ends without an error."""


def copy_suffix(name: str) -> str:
    """The suffix of the annotated copy of an image."""
    suffix = PurePosixPath(name).suffix
    return suffix if suffix.lower() in _SAVED else ".png"


class AnnotatedSink(Sink):
    """Annotated copies: an image under its own name, its pages numbered; a video, camera or stream as one NAME.mp4."""

    def __init__(self, paths: OutputPaths, rates: Mapping[str, Fraction | None]) -> None:
        self.paths, self.rates, self.clip, self.last = paths, rates, "", -1
        self.video: VideoWriter | None = None

    def write(self, frame: Frame, result: Detections, annotated: np.ndarray) -> None:
        if frame.time is None:
            save_image(self.paths.written.claim(self.paths.of(frame, copy_suffix(frame.name))), annotated)
            return
        if self.video is None or frame.name != self.clip or frame.index <= self.last:
            self.close()
            self.clip = frame.name
            path = self.paths.written.claim(self.paths.give(frame.name, ".mp4"))
            self.video = VideoWriter(path, self.rates.get(frame.name))
        self.last = frame.index
        self.video.write(annotated, frame.time)

    def skip(self, frame: Frame) -> None:
        if frame.time is None:
            self.paths.of(frame, copy_suffix(frame.name))
        else:
            self.paths.give(frame.name, ".mp4")

    def end_of_file(self) -> None:
        self.close()

    def close(self, finished: bool = True) -> None:
        video, self.video = self.video, None
        if video is not None:
            video.close()


class CountsSink(Sink):
    """counts.json: what `counts` returns at the end of the run; counts.part.json if it was cut short."""

    def __init__(self, written: OutputFolder, counts: Callable[[], Any]) -> None:
        self.counts, self.path = counts, written.claim(written.folder / "counts.json")
        self.part = written.claim(part_of(self.path))

    def write(self, frame: Frame, result: Detections, annotated: np.ndarray) -> None:
        """Do nothing: `VideoTracker` counts."""

    def close(self, finished: bool = True) -> None:
        replace_text(self.path if finished else self.part, json.dumps(self.counts(), indent=1) + "\n")


class PrintSink(Sink):
    """A line on standard output for each image, with its result; frames of videos would be too many."""

    def write(self, frame: Frame, result: Result, annotated: np.ndarray) -> None:
        if frame.time is None:
            name = f"{frame.name} [{frame.index}]" if frame.pages > 1 else frame.name
            say(f"{name}: {result.text()}")


class YoloTxtSink(Sink):
    """A YOLO text file for each image or frame: see `yolo_rows`."""

    def __init__(self, paths: OutputPaths) -> None:
        self.paths = paths

    def write(self, frame: Frame, result: Detections, annotated: np.ndarray) -> None:
        rows = yolo_rows(result, *frame.image.shape[:2])
        replace_text(self.paths.written.claim(self.paths.of(frame, ".txt")), "".join(rows), durable=False)

    def skip(self, frame: Frame) -> None:
        self.paths.of(frame, ".txt")


class LabelImageSink(Sink):
    """A PNG file for each image or frame, whose pixels say which object, or which class, they belong to.

    Args:
        paths: names of the files.
        what: "instances": the row of the object among those of its image in the json file, from 1; "classes": the
            label, plus 1, which is the line of the name in classes.txt. 0 is where no object is.
        names: class names by label.
    """

    def __init__(self, paths: OutputPaths, what: str, names: Sequence[str]) -> None:
        self.paths, self.what = paths, what
        if what == "classes":
            replace_text(paths.written.claim(paths.written.folder / "classes.txt"), "".join(f"{x}\n" for x in names))

    def write(self, frame: Frame, result: Detections | SemanticMap, annotated: np.ndarray) -> None:
        if isinstance(result, SemanticMap):
            image = result.label_image(self.what)
        else:
            assert isinstance(result.masks, RleMasks)
            labels = result.labels if self.what == "classes" else torch.arange(len(result))
            image = label_image(result.masks, (labels + 1).tolist())
        save_image(self.paths.written.claim(self.paths.of(frame, ".png")), image)

    def skip(self, frame: Frame) -> None:
        self.paths.of(frame, ".png")


def label_image(masks: RleMasks, values: Sequence[int]) -> np.ndarray:
    """The image (H, W) of the value of each mask, of the smaller one where masks overlap, 0 elsewhere.

    It is uint8, or uint16 if a value is above 255.
    """
    image = np.zeros(masks.size, np.uint8 if max(values, default=0) < 256 else np.uint16)
    for i in masks.by_area():
        left, top, mask = masks.window(i)
        image[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = values[i]
    return image


class WindowSink(Sink):
    """Shows the annotated images as they come; q, Escape or closing the window ends the run."""

    def __init__(self, title: str = "detect") -> None:
        self.title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise UserError(
                "--show needs a window, which this OpenCV cannot open: "
                "pip uninstall opencv-python-headless, then pip install opencv-python"
            ) from None

    def write(self, frame: Frame, result: Detections, annotated: np.ndarray) -> None:
        cv2.imshow(self.title, cv2.cvtColor(annotated, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27) or cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
            raise WindowClosed

    def close(self, finished: bool = True) -> None:
        cv2.destroyAllWindows()
