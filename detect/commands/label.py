"""`detect label`: write predictions as a dataset that people correct, and join the corrected labels again."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from detect.config.constraints import Range, Registered, ShareOrUnset
from detect.config.inference import InferenceConfig
from detect.errors import UserError
from detect.utils.names import counted, say

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.labelling.predicted import Bands, PredictedLabels

LOWEST = 0.05  # score from which what is dropped is counted
ACCEPTED = 0.5  # default of --accept


@dataclass(frozen=True)
class LabelConfig(InferenceConfig):
    """Write predictions as a dataset, or as files that a labelling program imports.

    Confident objects are accepted; those less certain are marked for a person to review, and their images are listed in
    review.txt. Images are not copied unless asked; frames of videos are written.
    """

    weights: list[str] = field(default_factory=list)
    source: str = ""
    out: str = "runs/label"
    format: Annotated[str, Registered("labels")] = "coco"
    """Format to write: coco, yolo, voc, cvat, label-studio or labelme."""
    accept: ShareOrUnset = None
    """Score from which an object is accepted. Default: the thresholds stored with the weights, else 0.5."""
    ask: ShareOrUnset = None
    """Score from which an object is marked for review; below it is dropped. Default: half of --accept."""
    images: Literal["auto", "refer", "link", "copy"] = "auto"
    """How the dataset gets its images: refer to the files, link or copy them. Default: refer, but link in formats that
    keep labels beside images (yolo, voc)."""
    scores: bool = False
    """Write the score as sixth column of YOLO rows. Other formats always keep scores."""
    simplify: Annotated[float, Range(0, 100)] = 0.0
    """Simplify the outlines of masks to polygons at most this many pixels away. Default (0): the exact mask."""


def label(config: LabelConfig) -> list[str]:
    """Predict every image of a source, and write the predictions as a dataset.

    Returns:
        Lines that tell how to go on.

    Raises:
        UserError: the weights, the source or an option cannot be used, or `out` holds something.
    """
    from detect.cli.applicability import refuse_unused
    from detect.commands.predict import make_tracker, tell
    from detect.ensemble import open_detector
    from detect.inference.source import open_source
    from detect.labelling.predicted import PredictedLabels
    from detect.labelling.writer import DatasetFolder

    if not config.weights or not config.source:
        raise UserError("detect label needs --weights and --source, the images to label")
    detector = open_detector(config.weights, config.device, config.precision, config.fusion)
    _require_objects(detector, config)
    refuse_unused("label", config, detector.model.task)
    bands = bands_of(config, detector)
    lowest = float(bands.ask.min())
    tracker = make_tracker(config, detector, lowest)
    keep = detector.metadata.postprocess(
        min([lowest, LOWEST, *([config.tracker.low] if tracker else [])]),
        config.iou,
        config.max_det,
        agnostic=config.agnostic,
        soft=config.soft,
        classes=detector.labels(config.classes) or None,
    )
    source = open_source(config.source, config.vid_stride, config.recursive, config.skip_bad, config.max_pixels)
    predictor = detector.predictor(keep, config.imgsz, config.batch, config.tta, config.tile)
    with DatasetFolder(config.out, config.format) as folder, source:
        found = PredictedLabels(
            source, folder.images("train"), config.images, detector.names, detector.metadata, bands, config.simplify
        )
        finished = _predict(source, predictor, tracker, found)
        lines = folder.write({"train": found.labels()}, config.images, config.scores) if found.records else []
    tell(source, len(found.records), keep)
    for line in (_summary(found, bands), *lines):
        say(line)
    if not finished:
        raise KeyboardInterrupt
    return lines


def _require_objects(detector: Detector, config: LabelConfig) -> None:
    from detect.tasks import get_task

    task = get_task(detector.model.task)
    if not task.detects_objects:
        raise UserError(f"{config.weights[0]} is {task.with_article}: detect label writes the objects of detectors")


def bands_of(config: LabelConfig, detector: Detector) -> Bands:
    """The thresholds of each class.

    Raises:
        UserError: `ask` is above `accept`.
    """
    import numpy as np

    from detect.labelling.predicted import Bands

    stored, count = detector.metadata.confidence, len(detector.names)
    if config.accept is not None:
        accept = np.full(count, config.accept)
    else:
        accept = np.array(stored.classes) if stored else np.full(count, ACCEPTED)
    ask = accept / 2 if config.ask is None else np.full(count, config.ask)
    if (ask > accept).any():
        raise UserError(f"--ask {config.ask:g} is above --accept {accept.min():g}: an object would be both; lower it")
    return Bands(accept, ask)


def _predict(source: Any, predictor: Any, tracker: Any, found: PredictedLabels) -> bool:
    """Predict every frame; whether that came to its end, and was not interrupted."""
    from detect.utils.interrupt import Interrupt
    from detect.utils.progress import track

    with ExitStack() as stack:
        interrupt = stack.enter_context(closing(Interrupt()))
        predictions = stack.enter_context(closing(predictor(source)))
        for frame, result in stack.enter_context(closing(track(predictions, source.count, "label"))):
            found.add(frame, tracker(frame, result) if tracker else result)
            if interrupt.asked:
                return False
    return True


def _summary(found: PredictedLabels, bands: Bands) -> str:
    each = ", ".join(f"{count} {name}" for name, count in found.accepted.most_common(12))
    accepted = f"{counted(found.accepted.total(), 'object')} accepted" + (f" ({each})" if each else "")
    low, high = float(bands.ask.min()), float(bands.ask.max())
    below = f"{low:g}" if low == high else f"{low:g} to {high:g}, by class"
    return (
        f"{counted(len(found.records), 'image')}: {accepted}, {found.asked.total():,} to review, "
        f"{found.dropped:,} below {below} dropped"
    )
