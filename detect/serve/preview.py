"""Draws the predictions of a run's best weights on validation images: `python -m detect.serve.preview RUN FOLDER`.

It is a process of its own, of low priority and with one thread, so that training hardly feels it. It writes
0.jpg, 1.jpg, ... into the folder, and prints a line of JSON: their captions, or an error.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect import plugins
from detect.api import Detector
from detect.data.annotations import Annotations
from detect.data.image_writer import save_image
from detect.data.images import scaled
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError, told_to_user
from detect.inference.draw import draw
from detect.report.examples import annotated
from detect.report.run_files import read_settings
from detect.tasks import get_task
from detect.types import Detections, Frame
from detect.utils.names import counted, json_text, say

COUNT = 8  # images
SIDE = 420  # pixels of the longer side of a panel
NICE = 5  # a third of what a thread of training gets, where both want one core


def preview(run: Path, folder: Path) -> list[str]:
    """Draw validation images with their annotations (left) and predictions (right).

    Returns:
        A caption for each.

    Raises:
        UserError: the weights or the data cannot be read, or results of the task cannot be drawn.
    """
    settings = read_settings(run)
    detector = Detector.load(run / "best.safetensors", "cpu", "float32")
    if detector.dims != 2 or get_task(detector.model.task).makes_embeddings:
        raise UserError("results of this model cannot be drawn on images")
    annotations, captions = _validation(settings), []
    annotations = annotations.select(np.unique(np.linspace(0, len(annotations) - 1, COUNT).round().astype(int)))
    frames = [Frame(annotations.read(i), annotations.file_name(i), i) for i in range(len(annotations))]
    keep, least = detector.metadata.postprocess(), min(detector.metadata.thresholds_of(), default=0)
    for number, (frame, result) in enumerate(detector.predictor(keep, settings["imgsz"])(frames)):
        known = result.described(detector.names, detector.metadata.category_ids, detector.metadata.skeleton)
        target, left = annotations.target(frame.index), frame.image
        if boxes := isinstance(result, Detections):
            truth = replace(annotated(annotations, result, frame.index), keypoints=target.keypoints)
            left = draw(frame.image, truth, annotations.names, hide_conf=True)
        save_image(folder / f"{number}.jpg", _beside(left, known.plot(frame.image)))
        said = counted(len(result), "detection") + f" from confidence {least:.2g}" if boxes else known.text()
        named = ", ".join(annotations.names[label] for label in target.labels[:3].tolist())
        captions.append(f"{frame.name}: {counted(len(target), 'object') if boxes else named}; {said}")
    return captions


def _validation(settings: dict[str, Any]) -> Annotations:
    """The split that training validates on."""
    labels, outside = get_task(settings.get("task", "detect")).image_level_labels, settings.get("allow_outside", False)
    found = splits(settings["data"], labels, outside)
    split = next((one for one in ("val", "test") if one in found), "train")
    return load_data(settings["data"], split, settings.get("skip_bad", False), labels, outside)


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two images of one size, small, with a gap between them."""
    scale = min(1.0, SIDE / max(left.shape[:2]))
    small = [scaled(one, scale) for one in (left, right)]
    return np.hstack([small[0], np.full((small[0].shape[0], 6, 3), 127, np.uint8), small[1]])


def main() -> None:
    """Print the captions, or the error."""
    if sys.platform != "win32":  # which has no such priorities
        with suppress(OSError):
            os.nice(NICE)
    torch.set_num_threads(1)
    run, folder, *named = sys.argv[1:]
    try:
        plugins.load_installed()
        plugins.load(named)
        say(json_text({"captions": preview(Path(run), Path(folder))}))
    except Exception as error:
        if not (said := told_to_user(error)):
            raise
        say(json_text({"error": said}))


if __name__ == "__main__":
    main()
