"""`detect predict`: find objects in images, video or a stream."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from detect.config.constraints import CallbackName, Count, Natural, Precision, Share, SideOrDefault
from detect.config.tracking import TrackConfig
from detect.errors import UserError
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.inference.pipeline import Summary
    from detect.inference.source import Source
    from detect.tracking.video_tracker import VideoTracker
    from detect.types import Postprocess


@dataclass(frozen=True)
class PredictConfig:
    """Find objects, or say the class, of an image, folder, glob, video, camera (its number) or stream (its URL).

    `classes` keeps only those names or numbers; `json` also prints the detections on standard output. `tta` and `tile`
    are those of evaluate. `track` follows objects through the frames of a video, or the pictures of a folder: only what
    belongs to a track is told, with its number. `lines` [[x, y, x, y], …] and `zones` [[x, y, x, y, x, y, …], …], in
    pixels, count the tracks that go through them. `callbacks` names callbacks that see, and may change, every result.

    `recursive` looks into the folders of a folder too. `skip_bad` leaves out what cannot be read, and lists it at the
    end, instead of ending there. `max_pixels`: width times height of the largest image or video frame that is read,
    since a small file can fill all memory; default (0): 500 million for an image, 35,651,584 (8192 x 4352) for a frame
    of a video or stream. What an earlier predict wrote into `out` is removed first.
    """

    weights: str
    source: str
    out: str = "runs/predict"
    recursive: bool = False
    skip_bad: bool = False
    max_pixels: Natural = 0
    imgsz: SideOrDefault = 0
    batch: Count = 1
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Count = 300
    agnostic: bool = False
    soft: bool = False
    classes: list[str] = field(default_factory=list)
    tta: bool = False
    tile: bool = False
    track: bool = False
    tracker: TrackConfig = field(default_factory=TrackConfig)
    lines: list[list[float]] = field(default_factory=list)
    zones: list[list[float]] = field(default_factory=list)
    vid_stride: Count = 1
    save_txt: bool = False
    save_crop: bool = False
    show: bool = False
    callbacks: list[CallbackName] = field(default_factory=list)
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


def predict(config: PredictConfig) -> None:
    """Find objects in a source, or say its classes; leave annotated copies and a json file under --out."""
    from detect.api import Detector
    from detect.callbacks.base import make_callbacks, watched
    from detect.cli.applicability import refuse_unused
    from detect.inference.pipeline import predict_to
    from detect.inference.source import open_source
    from detect.tasks import get_task
    from detect.types import Postprocess

    detector = Detector.load(config.weights, config.device, config.precision)
    refuse_unused("predict", config, detector.model.task)
    task = get_task(detector.model.task)
    results_file = task.require_results_file(config.weights)
    least = min(config.conf, config.tracker.low) if config.track else config.conf
    keep = Postprocess(
        least, config.iou, config.max_det, config.agnostic, config.soft, detector.labels(config.classes) or None
    )
    tracker = _tracker(config, detector)
    source = open_source(config.source, config.vid_stride, config.recursive, config.skip_bad, config.max_pixels)
    predictor = detector.predictor(keep, config.imgsz, config.batch, config.tta, config.tile)
    predictor = watched(predictor, make_callbacks(config.callbacks).values(), detector)
    summary = predict_to(
        source,
        predictor,
        detector.names,
        detector.metadata.category_ids,
        config.out,
        save_txt=config.save_txt,
        save_crop=config.save_crop,
        show=config.show,
        skeleton=[(a, b) for a, b in detector.metadata.skeleton],
        shape=detector.metadata.shape,
        results_file=results_file,
        say=task.prints_results and not config.json,
        tracker=tracker,
    )
    _tell(source, summary, keep)
    if config.json:
        print((Path(config.out) / results_file).read_text(encoding="utf-8"))
    said = ", ".join(f"{count} {name}" for name, count in summary.objects.most_common()) or "nothing"
    say(
        f"{summary.frames} frames: {said}; see {config.out} ({detector.computed(config.imgsz)})",
        sys.stderr if config.json else sys.stdout,
    )


def _tracker(config: PredictConfig, detector: Detector) -> VideoTracker | None:
    """What tracks objects through frames; None without --track."""
    from detect.api import Detector
    from detect.inference.box_embedder import BoxEmbedder, require_embedder
    from detect.tracking.video_tracker import VideoTracker

    embed = None
    if config.tracker.appearance:
        embedder = Detector.load(config.tracker.appearance, config.device, config.precision)
        require_embedder(embedder, config.tracker.appearance)
        embed = BoxEmbedder(embedder)
    if not config.track:
        return None
    return VideoTracker(config.conf, detector.names, config.tracker, config.lines, config.zones, embed)


def _tell(source: Source, summary: Summary, keep: Postprocess) -> None:
    """Print what was left out. Raises UserError where that is everything."""
    from detect.evaluation.evaluate import say_cuts

    if source.left_out and not summary.frames:
        raise UserError(f"nothing could be read; the first: {source.left_out[0]}")
    for line in source.left_out:
        say(f"left out: {line}", sys.stderr)
    if source.hidden:
        say(f"{source.hidden} previews, gain maps or copies in small within the files were not looked at", sys.stderr)
    say_cuts(keep, sys.stderr)
