"""The whole of `detect predict`: source to predictor to sinks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import av

from detect.errors import UserError
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.inference.predictor import Predictor
from detect.inference.source import Source
from detect.inference.writers import (
    AnnotatedSink,
    CountsSink,
    CropSink,
    JsonSink,
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
    """How many frames were looked at, and how many objects of each class were found, or frames of it there are."""

    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count a frame: every object in it, or its most probable class."""
        self.objects.update(result.counted())
        self.frames += 1


class PredictOutputs(TypedDict, total=False):
    """What `predict_to` is to leave besides annotated copies (of what can be drawn) and the json file; if at all."""

    save_txt: bool  # labels/*.txt
    save_crop: bool  # crops/CLASS/*.jpg
    shape: Sequence[Sequence[float]]  # the mean one of a landmarker (K, 2), to which crops are aligned
    show: bool  # a window
    say: bool  # the classes of pictures, on stdout


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
    """Finds objects in every frame of the source and leaves the answers under `out`: see also `PredictOutputs`.

    `results_file` is the name of the json file. `tracker` joins what is found to
    tracks; objects are then tracks, and `counts.json` has what its lines and zones counted.
    What an earlier run wrote into `out` is removed first, and nothing else: see `OutputFolder`. However it ends (Ctrl-C
    and errors too), videos and JSON are closed properly and keep what was done; json files of a run that did not come
    to its end are called NAME.part.json. Raises UserError for what cannot be read or written.
    """
    out, summary, pictured = Path(out), Summary(), source.kind != "records"
    if extras.get("show") and not pictured:
        raise UserError("--show is for pictures: leave it out")
    try:
        with ExitStack() as stack:
            stack.enter_context(source)
            written = stack.enter_context(closing(OutputFolder(out, source.files)))
            sinks: list[Sink] = []
            for sink in open_sinks(source, names, category_ids, written, results_file, tracker, extras):
                sinks.append(sink)
                stack.push(partial(_close, sink))
            interrupt = stack.enter_context(closing(Interrupt()))
            answers = stack.enter_context(closing(predictor(source)))
            stack.enter_context(suppress(WindowClosed))
            for frame, found in stack.enter_context(closing(track(answers, source.count, "predict"))):
                found = (tracker(frame, found) if tracker else found).described(names, category_ids, skeleton)
                picture = found.plot(frame.image) if pictured else frame.image
                if tracker:
                    tracker.draw(picture)
                for sink in sinks:
                    sink.write(frame, found, picture)
                summary.add(found)
                if interrupt.asked:
                    raise KeyboardInterrupt
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
    return replace(summary, objects=tracker.objects) if tracker else summary


def _close(sink: Sink, kind: type[BaseException] | None, *_: object) -> None:
    sink.close(whole=kind is None)


def _kept(out: Path, results_file: str, summary: Summary) -> str:
    """What is left of a run that did not come to its end."""
    return f"; the {summary.frames} frames before are in {part_of(out / results_file)}" if summary.frames else ""


def open_sinks(
    source: Source,
    names: Sequence[str],
    category_ids: Sequence[int],
    written: OutputFolder,
    answers: str,
    tracker: VideoTracker | None,
    extras: PredictOutputs,
) -> Iterator[Sink]:
    """The sinks asked for, each as soon as it is open: whoever takes them closes them, even where a later one fails."""
    paths = OutputPaths(written, source.files)
    if source.kind != "records":
        _require_room(source, written)
        yield AnnotatedSink(paths, source.rates)
    yield JsonSink(written, answers, names, category_ids)
    if tracker and tracker.counting:
        yield CountsSink(written, tracker.counts)
    if extras.get("say"):
        yield PrintSink()
    if extras.get("save_txt"):
        yield YoloTxtSink(paths.within("labels"))
    if extras.get("save_crop"):
        yield CropSink(paths.within("crops"), names, extras.get("shape", ()))
    if extras.get("show"):
        yield WindowSink()


def _require_room(source: Source, written: OutputFolder) -> None:
    """Raises UserError, before any work, where a file that predict did not write is in the way of an annotated copy."""
    if written.is_empty():
        return
    paths = OutputPaths(written, source.files)
    for part in source.parts:
        written.require_free(paths.give(part.name, ".mp4" if part.rate else copy_suffix(part.name)))
