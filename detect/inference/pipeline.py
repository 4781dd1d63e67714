"""The work of `detect predict`: source, predictor, tracker, sinks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import av

from detect.errors import UserError
from detect.inference.crops import CropSink
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.predictor import Predictor
from detect.inference.source import Source
from detect.inference.writers import (
    AnnotatedSink,
    CountsSink,
    JsonSink,
    LabelImageSink,
    PrintSink,
    Sink,
    WindowClosed,
    WindowSink,
    YoloTxtSink,
    copy_suffix,
    part_of,
)
from detect.results import Result
from detect.utils.interrupt import Interrupt
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.tracking.video_tracker import VideoTracker

_log = logging.getLogger("detect")


@dataclass
class Summary:
    """The number of frames, and of the objects of each class, or of the images of it (classifiers)."""

    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count a frame, and every object in it, or its most probable class."""
        self.objects.update(result.counted())
        self.frames += 1


class PredictOutputs(TypedDict, total=False):
    """What `predict_to` writes besides annotated copies and the json file; all of it is optional."""

    save_txt: bool  # labels/*.txt
    save_crop: bool  # crops/CLASS/*.jpg
    remove_background: bool  # crops/CLASS/*.png, transparent outside the masks
    save_masks: str  # masks/*.png of "instances" or "classes"; "off": none
    shape: Sequence[Sequence[float]]  # the mean shape (K, 2) of a landmarker, to which crops are aligned
    show: bool  # the annotated images in a window
    say: bool  # a line for each image, on standard output
    plot: Mapping[str, Any]  # how annotated copies are drawn: arguments of `Result.plot`


def predict_to(
    source: Source,
    predictor: Predictor,
    names: Sequence[str],
    category_ids: Sequence[int],
    out: str | Path,
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    results_file: str = "detections.json",
    tracker: VideoTracker | None = None,
    **extras: Unpack[PredictOutputs],
) -> Summary:
    """Predict every frame of a source, and write the results into a folder.

    What an earlier run wrote into the folder is removed first, and nothing else: see `OutputFolder`. However the run
    ends (Ctrl-C and errors too), videos and json files are closed properly and keep what was done; the json files of a
    run that was cut short are called NAME.part.json.

    Args:
        source: the frames; it is closed at the end.
        predictor: frames to pairs of frame and result.
        names: class names by label.
        category_ids: their ids in the annotation file, for the json file.
        out: the folder.
        skeleton: pairs of keypoints to join in annotated copies.
        results_file: the name of the json file.
        tracker: joins detections to tracks; the summary then counts tracks, and counts.json has its counts.
        extras: see `PredictOutputs`.

    Raises:
        UserError: something cannot be read or written.
    """
    out, summary, has_images, style = Path(out), Summary(), source.kind != "signals", extras.get("plot", {})
    if extras.get("show") and not has_images:
        raise UserError("--show is for images: leave it out")
    with _reporting(out, results_file, summary), ExitStack() as stack:
        stack.enter_context(source)
        written = stack.enter_context(closing(OutputFolder(out, source.files)))
        sinks: list[Sink] = []
        for sink in open_sinks(source, names, category_ids, written, results_file, tracker, extras):
            sinks.append(sink)
            stack.push(partial(_close, sink))
        interrupt = stack.enter_context(closing(Interrupt()))
        predictions = stack.enter_context(closing(predictor(source)))
        stack.enter_context(suppress(WindowClosed))
        for frame, result in stack.enter_context(closing(track(predictions, source.count, "predict"))):
            result = (tracker(frame, result) if tracker else result).described(names, category_ids, skeleton)
            annotated = result.plot(frame.image, **style) if has_images else frame.image
            if tracker:
                tracker.draw(annotated)
            for sink in sinks:
                sink.write(frame, result, annotated)
            summary.add(result)
            if interrupt.asked:
                raise KeyboardInterrupt
    return replace(summary, objects=tracker.objects) if tracker else summary


@contextmanager
def _reporting(out: Path, results_file: str, summary: Summary) -> Iterator[None]:
    """Turn errors of files and videos into UserErrors that tell what is left of the run."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        where = getattr(error, "filename", None) or out
        reason = f"{where}: cannot be written ({error.strerror or error})"
        raise UserError(reason + _kept(out, results_file, summary)) from error
    except UserError as error:
        raise UserError(f"{error}{_kept(out, results_file, summary)}") from error
    except KeyboardInterrupt:
        if kept := _kept(out, results_file, summary):
            _log.warning("interrupted%s", kept)
        raise


def _close(sink: Sink, kind: type[BaseException] | None, *_: object) -> None:
    sink.close(finished=kind is None)


def _kept(out: Path, results_file: str, summary: Summary) -> str:
    """What to say of the results of a run that was cut short."""
    return f"; the {summary.frames} frames before are in {part_of(out / results_file)}" if summary.frames else ""


def open_sinks(
    source: Source,
    names: Sequence[str],
    category_ids: Sequence[int],
    written: OutputFolder,
    results_file: str,
    tracker: VideoTracker | None,
    extras: PredictOutputs,
) -> Iterator[Sink]:
    """The sinks, each as soon as it is open, so that the caller can close those that are open if a later one fails."""
    paths = OutputPaths(written, source.files)
    if source.kind != "signals":
        _require_room(source, written)
        yield AnnotatedSink(paths, source.rates)
    yield JsonSink(written, results_file, names, category_ids)
    if tracker and tracker.counting:
        yield CountsSink(written, tracker.counts)
    if extras.get("say"):
        yield PrintSink()
    if extras.get("save_txt"):
        yield YoloTxtSink(paths.within("labels"))
    if extras.get("save_crop"):
        yield CropSink(paths.within("crops"), names, extras.get("shape", ()), extras.get("remove_background", False))
    if (what := extras.get("save_masks", "off")) != "off":
        yield LabelImageSink(paths.within("masks"), what, names)
    if extras.get("show"):
        yield WindowSink()


def _require_room(source: Source, written: OutputFolder) -> None:
    """Raise a UserError, before any work, if a file that predict did not write has the name of an annotated copy."""
    if written.is_empty():
        return
    paths = OutputPaths(written, source.files)
    for part in source.parts:
        written.require_free(paths.give(part.name, ".mp4" if part.rate else copy_suffix(part.name)))
