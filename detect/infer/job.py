"""The whole of `detect predict`: source to predictor to sinks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Unpack

import av

from detect.errors import UserError
from detect.files import replace_text
from detect.infer.draw import draw
from detect.infer.follow import Follow
from detect.infer.predict import Predictor
from detect.infer.sink import ANSWERS, Crops, Labels, Lines, Paths, Pictures, Results, Sink, Stop, Window
from detect.infer.source import Source
from detect.interrupt import Interrupt
from detect.progress import track
from detect.types import Classes, Detections


@dataclass
class Summary:
    """How many frames were looked at, and how many objects of each class were found, or frames of it there are."""

    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)

    def add(self, found: Detections | Classes, names: Sequence[str]) -> None:
        """Count a frame: every object in it, or its most probable class."""
        labels = found.labels[:1] if isinstance(found, Classes) else found.labels
        self.objects.update(names[label] for label in labels.tolist())
        self.frames += 1


class Extras(TypedDict, total=False):
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
    kind: type = Detections,
    follow: Follow | None = None,
    **extras: Unpack[Extras],
) -> Summary:
    """Finds objects in every frame of the source and leaves the answers under `out`: see also `Extras`.

    `kind` is what the predictor answers with, and chooses the json file among ANSWERS. `follow` joins what is found to
    tracks; objects are then tracks, and `counts.json` has what its lines and zones counted.
    However it ends (Ctrl-C and errors too), videos and JSON are closed properly and keep what was done.
    Raises UserError for what cannot be read or written.
    """
    out, summary, pictured = Path(out), Summary(), source.kind != "records"
    if extras.get("show") and not pictured:
        raise UserError("--show is for pictures: leave it out")
    try:
        with ExitStack() as stack:
            stack.enter_context(source)
            out.mkdir(parents=True, exist_ok=True)
            sinks: list[Sink] = []
            for sink in opened(source, names, category_ids, out, out / ANSWERS[kind], extras):
                sinks.append(sink)
                stack.callback(sink.close)
            if follow and follow.counting:
                stack.callback(lambda: replace_text(out / "counts.json", json.dumps(follow.counts(), indent=1) + "\n"))
            interrupt = stack.enter_context(closing(Interrupt()))
            answers = stack.enter_context(closing(predictor(source)))
            stack.enter_context(suppress(Stop))
            for frame, found in stack.enter_context(closing(track(answers, source.count, "predict"))):
                found = follow(frame, found) if follow else found
                picture = draw(frame.image, found, names, skeleton) if pictured else frame.image
                if follow:
                    follow.paint(picture)
                for sink in sinks:
                    sink.write(frame, found, picture)
                summary.add(found, names)
                if interrupt.asked:
                    raise KeyboardInterrupt
    except (OSError, av.error.FFmpegError) as error:
        where = getattr(error, "filename", None) or out
        raise UserError(f"{where}: cannot be written ({error.strerror or error})") from error
    return replace(summary, objects=follow.objects) if follow else summary


def opened(
    source: Source,
    names: Sequence[str],
    category_ids: Sequence[int],
    out: Path,
    answers: Path,
    extras: Extras,
) -> Iterator[Sink]:
    """The sinks asked for, each as soon as it is open: whoever takes them closes them, even where a later one fails."""
    if source.kind != "records":
        yield Pictures(Paths(out, source.files), source.rates)
    yield Results(answers, names, category_ids)
    if extras.get("say"):
        yield Lines(names)
    if extras.get("save_txt"):
        yield Labels(Paths(out / "labels", source.files))
    if extras.get("save_crop"):
        yield Crops(Paths(out / "crops", source.files), names, extras.get("shape", ()))
    if extras.get("show"):
        yield Window()
