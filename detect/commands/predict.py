"""`detect predict`: find objects in images, video or a stream."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from detect.config.constraints import CallbackName, Natural, Range, ReadWith, ShareOrUnset
from detect.config.fields import ADVANCED
from detect.config.inference import ImageInferenceConfig, InferenceConfig
from detect.config.streams import Policy, StreamConfig
from detect.config.tracking import MotionConfig
from detect.errors import UserError
from detect.utils.names import counted, say

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.inference.class_ensemble import ClassEnsemble
    from detect.inference.pipeline import Job
    from detect.inference.source import Source
    from detect.inference.streams import Streams
    from detect.tasks import Task
    from detect.types import Postprocess


# Options that change neither the results nor where they go.
BESIDE = frozenset({"weights", "source", "out", "resume", "json", "show", "callbacks"})
SHOWN = 12  # classes up to which a message names the threshold of each


@dataclass(frozen=True)
class PredictConfig(MotionConfig, InferenceConfig):
    """Run a model on images, video or a stream: annotated copies and a file of the predictions.

    Files that an earlier `detect predict` left in `out` are removed first, unless `resume` continues it.
    """

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    source: list[str]  # type: ignore[assignment]  # of the other commands it is one
    """Image, folder, glob, text file of paths, video, camera number or stream URL; several, or a YAML file of streams.
    Several videos, cameras and URLs are read at once, each into its folder of --out."""
    policy: Annotated[Policy, ADVANCED] = "auto"
    """Frames of several sources that are predicted: every, or the latest where the model is slower than they come.
    Default (auto): the latest of cameras and streams, every one of files."""
    retries: Annotated[Natural, ADVANCED] = 0
    """Attempts in a row to open a camera or stream of several again. Default (0): until it is back."""
    out: str = "runs/predict"
    format: Literal["coco", "jsonl", "parquet"] = "coco"
    """Format of the results: coco, one JSON file; jsonl, a line of JSON for each image; parquet, a row for each."""
    annotate: bool = True
    """Write annotated copies. Without them large folders are predicted faster."""
    resume: bool = False
    """Continue the run in --out that was killed or interrupted, with the same options, after the last file that it has
    done."""
    conf: ShareOrUnset = None
    """Confidence threshold; default: that of the weights, else 0.25. Detections with a lower score are dropped. Weights
    have thresholds of their own, one for each class, from `detect evaluate --save-thresholds`."""
    crops: Annotated[int, Range(1, 10)] = 1
    """Views of an image that a classifier averages. In this order: whole, mirrored, the four corners, their mirror
    images."""
    lines: Annotated[list[list[float]], ReadWith("track", "true")] = field(default_factory=list)
    """Count tracks that cross lines, in pixels: [[x, y, x, y], …]."""
    zones: Annotated[list[list[float]], ReadWith("track", "true")] = field(default_factory=list)
    """Count tracks in polygons, in pixels: [[x, y, x, y, x, y, …], …]."""
    heatmap: Annotated[bool, ReadWith("track", "true")] = False
    """Also write an image of where tracks have been. Each video has its own."""
    save_txt: bool = False
    """Also write labels in YOLO format: boxes, polygons of masks, or the corners of oriented boxes."""
    save_crop: bool = False
    """Also write each detection as an image of its own. Oriented boxes are turned upright."""
    remove_background: Annotated[bool, ReadWith("save_crop", "true")] = False
    """Make crops transparent outside the mask of the object: PNG files."""
    save_masks: Literal["off", "instances", "classes"] = "off"
    """Also write a PNG file for each image whose pixels have the number of their object, in the order of the JSON file,
    or the index of their class, both from 1; 0 is the background. With 256 or more values they have 16 bits."""
    show: bool = False
    """Show the annotated frames in a window."""
    line_width: Natural = 0
    """Width of the lines of boxes, in pixels. Default: by image and box size."""
    hide_labels: bool = False
    """Draw boxes and masks without names and scores."""
    hide_conf: bool = False
    """Draw names without scores."""
    show_boxes: bool = False
    """Draw boxes beside masks, too."""
    callbacks: list[CallbackName] = field(default_factory=list)
    """Callbacks that see, and may change, every result."""
    json: bool = False
    """Also print the file of the predictions to standard output."""


def predict(config: PredictConfig) -> None:
    """Run a model on a source; write annotated copies and a file of the predictions to `out`.

    Raises:
        UserError: the weights, the source or an option cannot be used.
    """
    from detect.api import Detector
    from detect.callbacks.base import make_callbacks, watched
    from detect.cli.applicability import refuse_unused
    from detect.ensemble import joined
    from detect.inference.pipeline import Summary, predict_jobs
    from detect.inference.streams import Streams, batch_of, in_rounds
    from detect.tasks import get_task

    streams = _streams(config)
    members = [Detector.load(path, config.device, config.precision) for path in config.weights]
    classes = {member.model.task for member in members} == {"classify"}
    detector = members[0] if classes else joined(members, config.weights, config.fusion)
    refuse_unused("predict", config, detector.model.task)
    task = get_task(detector.model.task)
    results_file = _results_file(config, task)
    keep = _postprocess(config, detector)
    batch = batch_of(config.batch, len(streams), detector.device.type)
    frames, jobs = _jobs(config, detector, streams, batch)
    if classes and (len(members) > 1 or config.crops > 1):
        predictor: Any = _ensemble(config, members, keep)
    else:
        predictor = detector.predictor(keep, config.imgsz, batch, config.tta, config.tile)
    predictor = in_rounds(predictor) if isinstance(frames, Streams) else predictor
    predictor = watched(predictor, make_callbacks(config.callbacks).values(), detector)
    summaries = [Summary() for _ in jobs]
    try:
        predict_jobs(
            frames,
            jobs,
            predictor,
            detector.names,
            detector.metadata.category_ids,
            config.out,
            summaries=summaries,
            results_file=results_file,
            **_outputs(config, detector, task, frames, jobs),
        )
    finally:
        for job, summary in zip(jobs, summaries, strict=True) if streams else ():
            say(job.source.line(summary.frames))
    frame_count = sum(summary.frames for summary in summaries)
    tell(frames, frame_count, keep)
    if config.json:
        with (Path(config.out) / results_file).open(encoding="utf-8") as file:
            shutil.copyfileobj(file, sys.stdout)
    objects = sum((summary.objects for summary in summaries), Counter[str]())
    said = ", ".join(f"{count} {name}" for name, count in objects.most_common()) or "nothing"
    say(
        f"{counted(frame_count, 'frame')}: {said}; see {config.out} ({detector.computed(config.imgsz)})",
        sys.stderr if config.json else sys.stdout,
    )


def _outputs(
    config: PredictConfig, detector: Detector, task: Task, frames: Source | Streams, jobs: Sequence[Job]
) -> dict[str, Any]:
    """What is written, as arguments of `predict_jobs`."""
    plot = {name: getattr(config, name) for name in ("line_width", "hide_labels", "hide_conf", "show_boxes")}
    same = ("annotate", "save_txt", "save_crop", "remove_background", "save_masks", "show", "resume", "heatmap")
    return {name: getattr(config, name) for name in same} | {
        "skeleton": [(a, b) for a, b in detector.metadata.skeleton],
        "shape": detector.metadata.shape,
        "say": task.prints_results and not config.json,
        "fields": (*task.record_fields, *_track_fields(config, jobs)),
        "run": _identity(config, detector, frames),
        "plot": plot,
    }


def _track_fields(config: PredictConfig, jobs: Sequence[Job]) -> list[str]:
    """The fields of records that tracking adds."""
    zones = any(job.tracker and job.tracker.zones for job in jobs)
    return [*["track_id"] * config.track, *["speed"] * config.speed, *["dwell"] * zones]


def _streams(config: PredictConfig) -> dict[str, StreamConfig]:
    """The streams that --source names, by name; {} for a source alone.

    Raises:
        UserError: they cannot be used, or an option is set that is for one source.
    """
    from detect.cli.applicability import refuse_set
    from detect.inference.stream_list import is_stream_file, read_streams, streams_of

    if not config.source:
        raise UserError("--source is an empty list: name an image, a folder, a video, a camera or a URL")
    named = is_stream_file(config.source)
    if len(config.source) == 1 and not named:
        refuse_set(config, ["policy", "retries"], "is for several sources, and there is one")
        return {}
    refuse_set(config, ["resume", "json", "recursive"], "is for one source, and there are several")
    streams = read_streams(config.source[0]) if named else streams_of(config.source)
    for name, one in streams.items():
        if (one.lines or one.zones) and not config.track:
            raise UserError(f"stream {name} has lines or zones, which are read with --track alone: give that")
        if one.homography and not config.speed:
            raise UserError(f"stream {name} has a homography, which is read with --speed alone: give that")
    return streams


def _jobs(
    config: PredictConfig, detector: Detector, streams: Mapping[str, StreamConfig], batch: int
) -> tuple[Source | Streams, list[Job]]:
    """What is read, and what is done with each source of it."""
    from detect.inference.pipeline import Job
    from detect.inference.source import open_source
    from detect.inference.stream_list import reader_of
    from detect.inference.streams import Streams
    from detect.tracking.from_config import make_tracker

    conf = _track_conf(config, detector)
    if not streams:
        source = open_source(config.source[0], config.vid_stride, config.recursive, config.skip_bad, config.max_pixels)
        return source, [Job(source, "", make_tracker(config, detector, conf, config.lines, config.zones, config))]
    jobs, unread = list[Job](), list[str]()
    for name, one in streams.items():
        try:
            reader = reader_of(name, one, config.policy, config.retries, config.vid_stride, config.max_pixels)
        except UserError as error:
            unread.append(str(error))
            continue
        own = replace(config, homography=one.homography or config.homography)
        tracker = make_tracker(config, detector, conf, one.lines or config.lines, one.zones or config.zones, own)
        jobs.append(Job(reader, name, tracker))
    if unread and not (config.skip_bad and jobs):
        raise UserError(unread[0])
    for line in unread:
        say(f"left out: {line}", sys.stderr)
    return Streams([job.source for job in jobs], batch, config.skip_bad, detector.device.type), jobs


def _results_file(config: PredictConfig, task: Task) -> str:
    """The name of the results file, whose suffix is that of the format. Raises UserError where there is none."""
    name = Path(task.require_results_file(config.weights[0]))
    if config.format == "parquet":
        require_record_fields(task, "--format parquet does not know", "take jsonl")
    if config.format == "parquet" and config.json:
        raise UserError("--json prints JSON: leave it out, or take --format coco or jsonl")
    return str(name.with_suffix({"coco": ".json"}.get(config.format, f".{config.format}")))


def require_record_fields(task: Task, what: str, remedy: str) -> None:
    """Raise a UserError for a task whose results have no columns; its words are those around the task."""
    if not task.record_fields:
        raise UserError(f"{what} the results of {task.with_article}: {remedy}")


def _identity(config: PredictConfig, detector: Detector, source: Source | Streams) -> dict[str, Any] | None:
    """What must be the same for another run to continue this one; None where none can.

    Raises:
        UserError: it is to be continued, and cannot be.
    """
    from detect.inference.identity import identity
    from detect.inference.streams import Streams

    other = "--track" if config.track else f"a {source.kind} source" if source.is_live else ""
    if other and config.resume:
        raise UserError(f"--resume cannot continue {other}, which has no state in files: leave --resume out")
    if isinstance(source, Streams) or other or len(source.files) != len(source.parts):
        return None
    files = ((part.name, path) for part, path in zip(source.parts, source.files, strict=True))
    used = replace(config, **detector.computed_by())
    return identity(used, BESIDE, config.weights, files)


def _ensemble(config: PredictConfig, members: list[Detector], keep: Postprocess) -> ClassEnsemble:
    """The predictor of several classifiers, or of several views. Raises UserError for other models."""
    from detect.inference.class_ensemble import ClassEnsemble, require_same_classes

    if members[0].model.task != "classify" or any(member.dims != 2 for member in members):
        raise UserError("several --weights, and --crops, are for classifiers of images: give one file")
    require_same_classes(members, config.weights)
    return ClassEnsemble(members, keep, config.imgsz, config.crops)


def _postprocess(config: PredictConfig, detector: Detector) -> Postprocess:
    """How predictions are made; prints the confidence thresholds that come with the weights."""
    stored = detector.metadata.confidence
    say_thresholds(config.conf, detector, f"{stored.overall:g} for all classes" if stored and config.track else "")
    conf = min(_track_conf(config, detector), config.tracker.low) if config.track else config.conf
    return make_postprocess(config, detector, conf)


def say_thresholds(conf: float | None, detector: Detector, each: str = "") -> None:
    """Print the confidence thresholds that come with the weights, unless `conf` overrides them.

    Args:
        conf: what --conf says.
        detector: the model.
        each: what to print of the classes. Default: the threshold of each, or their range.
    """
    stored = detector.metadata.confidence
    if conf is not None or not stored:
        return
    named = dict(zip(detector.names, stored.classes, strict=True))
    if not each and len(named) > SHOWN:
        each = f"{min(named.values()):g} to {max(named.values()):g}, by class"
    each = each or ", ".join(f"{name} {value:g}" for name, value in named.items())
    say(f"confidence thresholds of the weights, for {stored.basis}: {each}; --conf overrides them", sys.stderr)


def make_postprocess(config: ImageInferenceConfig, detector: Detector, conf: float | None) -> Postprocess:
    """How predictions are made, with the options of a command and a confidence threshold.

    Raises:
        UserError: the model has no such class.
    """
    return detector.metadata.postprocess(
        conf,
        config.iou,
        config.max_det,
        agnostic=config.agnostic,
        soft=config.soft,
        classes=detector.labels(config.classes) or None,
    )


def _track_conf(config: PredictConfig, detector: Detector) -> float:
    """The confidence threshold of all classes, as the tracker takes it."""
    stored = detector.metadata.confidence
    default = stored.overall if stored else min(detector.metadata.thresholds_of())
    return default if config.conf is None else config.conf


def tell(source: Source | Streams, frames: int, keep: Postprocess) -> None:
    """Print what was left out of a source, of which so many frames were read.

    Raises:
        UserError: nothing could be read.
    """
    from detect.evaluation.evaluate import say_cuts

    if source.left_out and not frames:
        raise UserError(f"nothing could be read; the first: {source.left_out[0]}")
    for line in source.left_out:
        say(f"left out: {line}", sys.stderr)
    if source.hidden:
        say(f"{source.hidden} previews, gain maps or thumbnails inside the files were not read", sys.stderr)
    say_cuts(keep, sys.stderr)
