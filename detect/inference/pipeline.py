"""The work of `detect predict`: source, predictor, tracker, sinks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import av
import numpy as np

from detect.errors import UserError
from detect.inference.crops import CropSink
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.predictor import Predictor
from detect.inference.result_writers import part_of, results_sink
from detect.inference.run_progress import RunProgress
from detect.inference.sink import Sink
from detect.inference.source import Source
from detect.inference.writers import (
    AnnotatedSink,
    CountsSink,
    LabelImageSink,
    PrintSink,
    WindowClosed,
    WindowSink,
    YoloTxtSink,
    copy_suffix,
)
from detect.results import Result
from detect.types import Frame
from detect.utils.interrupt import Interrupt
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.tracking.video_tracker import VideoTracker

_log = logging.getLogger("detect")


@dataclass
class Summary:
    """The number of frames, and of the objects of each class, or of the images of it (classifiers)."""

    resumable: bool = False
    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count a frame, and every object in it, or its most probable class."""
        self.objects.update(result.counted())
        self.frames += 1

    def begin(self, written: OutputFolder) -> None:
        """Count what the run has done that this one continues."""
        for note in written.notes:
            self.objects.update(note.objects)
            self.frames = note.frames


class PredictOutputs(TypedDict, total=False):
    """What `predict_to` writes besides the results file, and how; all of it is optional."""

    annotate: bool  # annotated copies; default: True
    save_txt: bool  # labels/*.txt
    save_crop: bool  # crops/CLASS/*.jpg
    remove_background: bool  # crops/CLASS/*.png, transparent outside the masks
    save_masks: str  # masks/*.png of "instances" or "classes"; "off": none
    shape: Sequence[Sequence[float]]  # the mean shape (K, 2) of a landmarker, to which crops are aligned
    show: bool  # the annotated images in a window
    say: bool  # a line for each image, on standard output
    plot: Mapping[str, Any]  # how annotated copies are drawn: arguments of `Result.plot`
    fields: Sequence[str]  # those of a record, for Parquet
    run: Mapping[str, Any] | None  # what must be the same for another run to continue this one; default: none can
    resume: bool  # continue the run before


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

    What an earlier run wrote into the folder is removed first, and nothing else: see `OutputFolder`. However it ends
    (Ctrl-C and errors too), videos and results files are closed properly; the latter are called NAME.part.* until then.

    Args:
        source: the frames; it is closed at the end.
        predictor: frames to pairs of frame and result.
        names: class names by label.
        category_ids: their ids in the annotation file, for the results file.
        out: the folder.
        skeleton: pairs of keypoints to join in annotated copies.
        results_file: the name of the results file; its suffix says the format: see `results_sink`.
        tracker: joins detections to tracks; the summary then counts tracks, and counts.json has its counts.
        extras: see `PredictOutputs`.

    Raises:
        UserError: something cannot be read or written.
    """
    out, summary = Path(out), Summary(resumable=bool(extras.get("run")))
    if extras.get("show") and source.kind == "signals":
        raise UserError("--show is for images: leave it out")
    draws = source.kind != "signals" and (extras.get("annotate", True) or extras.get("show"))
    shown = partial(
        _shown, tracker=tracker, about=(names, category_ids, skeleton), style=extras.get("plot", {}) if draws else None
    )
    with _reporting(out, results_file, summary), ExitStack() as stack:
        stack.enter_context(source)
        run, resume = extras.get("run"), extras.get("resume", False)
        written = stack.enter_context(closing(OutputFolder(out, source.files, run, resume)))
        summary.begin(written)
        if written.is_finished(out / results_file, part_of(out / results_file)):
            return summary
        sinks: list[Sink] = []
        for sink in open_sinks(source, names, category_ids, written, results_file, tracker, extras):
            sinks.append(sink)
            stack.push(partial(_close, sink))
        progress = RunProgress(source, written, sinks) if run else None
        interrupt = stack.enter_context(closing(Interrupt()))
        predictions = stack.enter_context(closing(predictor(source)))
        pairs = track(predictions, source.count and source.count - summary.frames, "predict")
        stack.enter_context(suppress(WindowClosed))
        _write_all(stack.enter_context(closing(pairs)), shown, sinks, summary, progress, interrupt)
    return replace(summary, objects=tracker.objects) if tracker else summary


def _shown(
    frame: Frame,
    prediction: Any,
    *,
    tracker: VideoTracker | None,
    about: tuple[Sequence[str], Sequence[int], Sequence[tuple[int, int]]],
    style: Mapping[str, Any] | None,
) -> tuple[Result, np.ndarray]:
    """A prediction with tracks, names, ids and skeleton, and the annotated image; the image without `style`."""
    result = (tracker(frame, prediction) if tracker else prediction).described(*about)
    if style is None:
        return result, frame.image
    annotated = result.plot(frame.image, **style)
    if tracker:
        tracker.draw(annotated)
    return result, annotated


def _write_all(
    predictions: Iterable[tuple[Frame, Any]],
    shown: Callable[[Frame, Any], tuple[Result, np.ndarray]],
    sinks: Sequence[Sink],
    summary: Summary,
    progress: RunProgress | None,
    interrupt: Interrupt,
) -> None:
    """Write every prediction, with the annotated image that `shown` makes of it; note after each file that it is done.

    Raises:
        KeyboardInterrupt: there was a request to stop; the frame before was written.
    """
    for frame, prediction in predictions:
        if progress:
            progress.before(frame)
        result, annotated = shown(frame, prediction)
        for sink in sinks:
            sink.write(frame, result, annotated)
        summary.add(result)
        if progress:
            progress.after(frame, result)
        if interrupt.asked:
            raise KeyboardInterrupt
    if progress:
        progress.note()


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
    how = "; --resume continues" if summary.resumable else ""
    return f"; the {summary.frames} frames before are in {part_of(out / results_file)}{how}" if summary.frames else ""


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
    if source.kind != "signals" and extras.get("annotate", True):
        _require_room(source, written)
        yield AnnotatedSink(paths, source.rates)
    yield results_sink(written, results_file, names, category_ids, extras.get("fields", ()))
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
    done = written.done.part if written.done else -1
    for part in source.parts:
        path = paths.give(part.name, ".mp4" if part.rate else copy_suffix(part.name))
        if part.number > done:
            written.require_free(path)
