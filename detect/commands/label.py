"""`detect label`: write predictions as a dataset that people correct, and join the corrected labels again."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from detect.config.constraints import Range, ReadWith, Registered, ShareOrUnset
from detect.config.inference import InferenceConfig
from detect.errors import UserError
from detect.utils.names import counted, say

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.labelling.predicted import Bands, PredictedLabels

LOWEST = 0.05  # score from which what is dropped is counted
ACCEPTED = 0.5  # default of --accept
PREDICTING = "is for predictions, and --merge makes none"


@dataclass(frozen=True)
class LabelConfig(InferenceConfig):
    """Write predictions as a dataset, or as files that a labelling program imports; or join labels that were corrected.

    Confident objects are accepted; those less certain are marked for a person to review, and their images are listed in
    review.txt. Images are not copied unless asked; frames of videos are written. With --merge, corrected labels and the
    dataset that they were made from become a new dataset, and changes.json and changes.txt tell what changed.
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
    merge: list[str] = field(default_factory=list)
    """Corrected labels to join, in place of a prediction: files or folders as --data takes them, single COCO files, and
    label files of YOLO and VOC without images."""
    into: Annotated[str, ReadWith("merge")] = ""
    """Dataset that the corrected labels were made from, which stays as it is."""
    split: Annotated[str, ReadWith("merge")] = "train"
    """Split that takes images that the dataset lacks."""
    new_classes: Annotated[bool, ReadWith("merge")] = False
    """Take classes that the dataset lacks; without it they are an error."""
    conflicts: Annotated[Literal["refuse", "first", "last"], ReadWith("merge")] = "refuse"
    """Which correction of an image counts that was corrected twice, differently: none, the first or the last."""
    allow_outside: Annotated[bool, ReadWith("merge")] = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""


def label(config: LabelConfig) -> list[str]:
    """Write predictions as a dataset, or join corrected labels with theirs.

    Returns:
        Lines that tell how to go on.

    Raises:
        UserError: something cannot be used, or `out` holds something.
    """
    return _merge(config) if config.merge else _write_predictions(config)


def _merge(config: LabelConfig) -> list[str]:
    """Join corrected labels with the dataset that they were made from, as a new dataset."""
    from pathlib import Path

    from detect.cli.applicability import refuse_set, refuse_unused
    from detect.data.sources.formats import recognise
    from detect.evaluation.evaluate import say_left_out
    from detect.labelling.corrected import read_corrected
    from detect.labelling.merge import Merge
    from detect.labelling.writer import DatasetFolder

    refuse_set(config, [f.name for f in fields(InferenceConfig) if f.name not in ("out", "skip_bad")], PREDICTING)
    refuse_set(config, ["accept", "ask", "simplify", "scores"], PREDICTING)
    refuse_unused("label", config)
    if not config.into:
        raise UserError("--merge needs --into, the dataset that the corrected labels were made from")
    with DatasetFolder(config.out, config.format) as folder:
        folder.placement(config.images)
        loaders = recognise(config.into, allow_outside=config.allow_outside)
        sets = {split: load(config.skip_bad) for split, load in loaders.items()}
        merge = Merge(sets, config.split, config.new_classes, config.conflicts)
        known = [(image.file, str(image.record["file_name"])) for image in merge.images]
        names = [str(one["name"]) for one in merge.categories]
        for path in map(Path, config.merge):
            for corrected in read_corrected(path.expanduser(), known, names, config.skip_bad):
                say_left_out(corrected)
                merge.take(path, corrected)
        merged, changes = merge.finish()
        lines = folder.write(merged, config.images)
        changes.write(folder.out)
    lines.append(f"{folder.out / 'changes.txt'} tells what changed in each image, changes.json every object")
    for line in (*changes.summary(), *lines):
        say(line)
    return lines


def _write_predictions(config: LabelConfig) -> list[str]:
    """Predict every image of a source, and write the predictions as a dataset.

    Returns:
        Lines that tell how to go on.

    Raises:
        UserError: the weights, the source or an option cannot be used, or `out` holds something.
    """
    from detect.cli.applicability import refuse_unused
    from detect.commands.predict import tell
    from detect.ensemble import open_detector
    from detect.inference.source import open_source
    from detect.labelling.predicted import PredictedLabels
    from detect.labelling.writer import DatasetFolder
    from detect.limits import LimitHits
    from detect.tracking.from_config import make_tracker

    if not config.weights or not config.source:
        raise UserError("detect label needs --weights and --source, the images to label; or --merge and --into")
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
        folder.placement(config.images)
        found = PredictedLabels(
            source,
            folder.images("train"),
            config.images,
            detector.names,
            detector.metadata,
            bands,
            config.max_det,
            config.simplify,
        )
        stopped = _predict(source, predictor, tracker, found)
        lines = folder.write({"train": found.labels()}, config.images, config.scores) if found.records else []
    if not isinstance(stopped, UserError):
        tell(source, len(found.records), replace(keep, limit_hits=LimitHits()))  # of scores that are dropped anyway
    for line in (_summary(found, bands), *lines) if found.records else ():
        say(line)
    if stopped:
        kept = f"; the {counted(len(found.records), 'image')} before are in {config.out}" if found.records else ""
        raise type(stopped)(f"{stopped}{kept}".removeprefix("; "))
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


def _predict(source: Any, predictor: Any, tracker: Any, found: PredictedLabels) -> BaseException | None:
    """Predict every frame. Returns what ended that early: an interrupt, or a UserError of an image."""
    from detect.utils.interrupt import Interrupt
    from detect.utils.progress import track

    with ExitStack() as stack:
        interrupt = stack.enter_context(closing(Interrupt()))
        predictions = stack.enter_context(closing(predictor(source)))
        frames = stack.enter_context(closing(track(predictions, source.count, "label")))
        try:
            for frame, result in frames:
                found.add(frame, tracker(frame, result) if tracker else result)
                if interrupt.asked:
                    return KeyboardInterrupt()
        except UserError as error:
            return error
    return None


def _summary(found: PredictedLabels, bands: Bands) -> str:
    each = ", ".join(f"{count} {name}" for name, count in found.accepted.most_common(12))
    accepted = f"{counted(found.accepted.total(), 'object')} accepted" + (f" ({each})" if each else "")
    low, high = float(bands.ask.min()), float(bands.ask.max())
    below = f"{low:g}" if low == high else f"{low:g} to {high:g}, by class"
    full = f"; {counted(found.full, 'image')} reached --max-det {found.limit}: raise it" if found.full else ""
    return (
        f"{counted(len(found.records), 'image')}: {accepted}, {found.asked.total():,} to review, "
        f"{found.dropped:,} below {below} dropped{full}"
    )
