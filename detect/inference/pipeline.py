"""The work of `detect predict`: source, predictor, tracker, sinks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

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
from detect.inference.streams import Streams
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
from detect.tracking.heatmap import HeatmapSink
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

    def begin(self, written: OutputFolder, resumable: bool) -> None:
        """Count what the run has done that this one continues."""
        self.resumable = resumable
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
    heatmap: bool  # NAME-heatmap.png of each video, where there is a tracker
    show: bool  # the annotated images in a window
    say: bool  # a line for each image, on standard output
    plot: Mapping[str, Any]  # how annotated copies are drawn: arguments of `Result.plot`
    fields: Sequence[str]  # those of a record, for Parquet
    run: Mapping[str, Any] | None  # what must be the same for another run to continue this one; default: none can
    resume: bool  # continue the run before


class Job(NamedTuple):
    """A source of a run: what is written of it, where, and with which tracker.

    source: a `Source` or `StreamReader`; folder: its folder inside that of the run, "" for that itself; tracker: joins
    detections to tracks; the summary then counts tracks, and counts.json has its counts.
    """

    source: Any
    folder: str = ""
    tracker: VideoTracker | None = None


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
    """Predict every frame of a source, and write the results into a folder: `predict_jobs` with one job.

    Args:
        source: the frames; it is closed at the end.
        predictor, names, category_ids, out, skeleton, results_file, extras: see `predict_jobs`.
        tracker: see `Job`.

    Raises:
        UserError: something cannot be read or written.
    """
    about: dict[str, Any] = {"skeleton": skeleton, "results_file": results_file, **extras}
    return predict_jobs(source, [Job(source, "", tracker)], predictor, names, category_ids, out, **about)[0]


def predict_jobs(
    frames: Source | Streams,
    jobs: Sequence[Job],
    predictor: Any,
    names: Sequence[str],
    category_ids: Sequence[int],
    out: str | Path,
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    results_file: str = "detections.json",
    summaries: Sequence[Summary] = (),
    **extras: Unpack[PredictOutputs],
) -> Sequence[Summary]:
    """Predict every frame of one source, or of several streams at once, and write the results into a folder.

    What an earlier run wrote into the folder is removed first, and nothing else: see `OutputFolder`. However it ends
    (Ctrl-C and errors too), videos and results files are closed properly; the latter are called NAME.part.* until then.

    Args:
        frames: what is read; it is closed at the end.
        jobs: one for each source; of several, each gets the frames whose `part` is its place.
        predictor: `frames` to pairs of frame and result.
        names, category_ids: class names by label, and their ids in the annotation file.
        out: the folder.
        skeleton: pairs of keypoints to join in annotated copies.
        results_file: the name of the results files; its suffix says the format: see `results_sink`.
        summaries: new ones to be counted in, one for each job; they can be read after an error, too.
        extras: see `PredictOutputs`.

    Raises:
        UserError: something cannot be read or written.
    """
    out, summaries = Path(out), summaries or [Summary() for _ in jobs]
    if extras.get("show") and frames.kind == "signals":
        raise UserError("--show is for images: leave it out")
    draws = frames.kind != "signals" and (extras.get("annotate", True) or extras.get("show"))
    shown = partial(_shown, about=(names, category_ids, skeleton), style=extras.get("plot", {}) if draws else None)
    places = [part_of(out / job.folder / results_file) for job in jobs]
    with _reporting(out, places, summaries), ExitStack() as stack:
        stack.enter_context(frames)
        folder = OutputFolder(out, frames.files, extras.get("run"), extras.get("resume", False))
        written, outputs = stack.enter_context(closing(folder)), list[_Output]()
        for job, summary in zip(jobs, summaries, strict=True):
            own = written.within(job.folder)
            summary.begin(own, bool(extras.get("run")))
            if own.is_finished(own.folder / results_file, part_of(own.folder / results_file)):
                return summaries
            sinks = _opened(open_sinks(job, names, category_ids, own, results_file, extras), stack)
            progress = RunProgress(job.source, own, sinks) if extras.get("run") else None
            outputs.append(_Output(partial(shown, tracker=job.tracker), sinks, summary, progress))
        interrupt = stack.enter_context(closing(Interrupt()))
        predictions = stack.enter_context(closing(predictor(frames)))
        pairs = track(predictions, frames.count and frames.count - sum(one.frames for one in summaries), "predict")
        stack.enter_context(suppress(WindowClosed))
        _write_all(stack.enter_context(closing(pairs)), outputs, interrupt)
    for job, summary in zip(jobs, summaries, strict=True):
        summary.objects = job.tracker.objects if job.tracker else summary.objects
    return summaries


def _shown(
    frame: Frame,
    prediction: Any,
    tracker: VideoTracker | None,
    about: tuple[Any, ...],
    style: Mapping[str, Any] | None,
) -> tuple[Result, np.ndarray]:
    """The result as it is written, and the image annotated with it, or the image itself without a `style`."""
    result = (tracker(frame, prediction) if tracker else prediction).described(*about)
    if style is None:
        return result, frame.image
    annotated = result.plot(frame.image, **style)
    if tracker:
        tracker.draw(annotated)
    return result, annotated


@dataclass
class _Output:
    """What is written of one source: `shown` gives the result and the annotated image of a frame, for the sinks."""

    shown: Callable[[Frame, Any], tuple[Result, np.ndarray]]
    sinks: Sequence[Sink]
    summary: Summary
    progress: RunProgress | None

    def write(self, frame: Frame, prediction: Any) -> None:
        """Write a prediction; note after each file that it is done."""
        if self.progress:
            self.progress.before(frame)
        result, annotated = self.shown(frame, prediction)
        for sink in self.sinks:
            sink.write(frame, result, annotated)
        self.summary.add(result)
        if self.progress:
            self.progress.after(frame, result)


def _write_all(predictions: Iterable[tuple[Frame, Any]], outputs: Sequence[_Output], interrupt: Interrupt) -> None:
    """Write every prediction where those of its source go.

    Raises:
        KeyboardInterrupt: there was a request to stop; the frame before was written.
    """
    for frame, prediction in predictions:
        outputs[frame.part if len(outputs) > 1 else 0].write(frame, prediction)
        if interrupt.asked:
            raise KeyboardInterrupt
    for output in outputs:
        if output.progress:
            output.progress.note()


@contextmanager
def _reporting(out: Path, parts: Sequence[Path], summaries: Sequence[Summary]) -> Iterator[None]:
    """Turn errors of files and videos into UserErrors that tell what is left of the run."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        where = getattr(error, "filename", None) or out
        reason = f"{where}: cannot be written ({error.strerror or error})"
        raise UserError(reason + _kept(parts, summaries)) from error
    except UserError as error:
        raise UserError(f"{error}{_kept(parts, summaries)}") from error
    except KeyboardInterrupt:
        if kept := _kept(parts, summaries):
            _log.warning("interrupted%s", kept)
        raise


def _opened(sinks: Iterable[Sink], stack: ExitStack) -> list[Sink]:
    """The sinks, each of which the stack closes, also where the next one cannot be opened."""
    opened = list[Sink]()
    for sink in sinks:
        opened.append(sink)
        stack.push(partial(_close, sink))
    return opened


def _close(sink: Sink, kind: type[BaseException] | None, *_: object) -> None:
    sink.close(finished=kind is None)


def _kept(parts: Sequence[Path], summaries: Sequence[Summary]) -> str:
    """What to say of the results of a run that was cut short: how many frames are in which results files."""
    how = "; --resume continues" if summaries[0].resumable else ""
    frames = sum(summary.frames for summary in summaries)
    where = parts[0] if len(parts) == 1 else parts[0].parent.parent / "*" / parts[0].name
    return f"; the {frames} frames before are in {where}{how}" if frames else ""


def open_sinks(
    job: Job,
    names: Sequence[str],
    category_ids: Sequence[int],
    written: OutputFolder,
    results_file: str,
    extras: PredictOutputs,
) -> Iterator[Sink]:
    """The sinks, each as soon as it is open, so that the caller can close those that are open if a later one fails."""
    source, tracker = job.source, job.tracker
    paths = OutputPaths(written, source.files)
    if source.kind != "signals" and extras.get("annotate", True):
        _require_room(source, written)
        yield AnnotatedSink(paths, source.rates)
    yield results_sink(written, results_file, names, category_ids, extras.get("fields", ()))
    if tracker and tracker.counting:
        yield CountsSink(written, tracker.counts)
    if tracker and extras.get("heatmap"):
        yield HeatmapSink(paths, tracker)
    if extras.get("say"):
        yield PrintSink()
    if extras.get("save_txt"):
        yield YoloTxtSink(paths.within("labels"))
    if extras.get("save_crop"):
        yield CropSink(paths.within("crops"), names, extras.get("shape", ()), extras.get("remove_background", False))
    if (what := extras.get("save_masks", "off")) != "off":
        yield LabelImageSink(paths.within("masks"), what, names)
    if extras.get("show"):
        yield WindowSink(job.folder or "detect")


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
