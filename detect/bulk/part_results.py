"""The results of one part, which depend on the part and the options alone: not on workers, batches before, or luck."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detect.bulk.manifest import Part
from detect.commands.predict import make_postprocess
from detect.ensemble import open_detector
from detect.errors import FULL, UserError, one_line
from detect.hub import resolve
from detect.inference.identity import digest
from detect.inference.parquet import write_rows
from detect.inference.result_writers import result_row
from detect.inference.source import open_part
from detect.storage.fetch import ahead
from detect.storage.resolve import as_local
from detect.storage.urls import is_url
from detect.types import Frame

if TYPE_CHECKING:
    from detect.commands.bulk import BulkConfig

COLUMNS = {"input": "int64", "error": "string"}  # before those of all files of results


@dataclass(frozen=True)
class Work:
    """What a worker is told.

    config: the options, with absolute paths, device and precision; digests: of the weights; column, fields: of the
    records.
    """

    config: BulkConfig
    digests: Sequence[str]
    column: str
    fields: Sequence[str]


class PartFrames:
    """The frames of the inputs of a part.

    failures: by input number, why an input cannot be read, or not all of it; what can be read is yielded.
    """

    def __init__(self, part: Part, vid_stride: int, max_pixels: int) -> None:
        self.part, self.options = part, (vid_stride, max_pixels)
        self.failures: dict[int, str] = {}

    def __length_hint__(self) -> int:
        # The predictor computes several images at once, each with one thread, and a single one with all: other bits.
        return max(2, len(self.part.inputs))

    def __iter__(self) -> Iterator[Frame]:
        paths = [as_local(one.place) if is_url(one.place) else one.place for one in self.part.inputs]
        ahead(paths)
        for number, (one, path) in enumerate(zip(self.part.inputs, paths, strict=True), self.part.first):
            count = 0
            try:
                with closing(open_part(Path(path), one.name, *self.options, self.part.frames)) as source:
                    source.number = number
                    for frame in source:
                        if frame.image.ndim != 3:
                            raise UserError(f"{one.name} is not an image")
                        count += 1
                        yield frame
                    if report := getattr(source, "report", ""):  # of a video
                        raise UserError(f"{one.name}: {report}")
                    if not count and not (self.part.frames and self.part.frames.first):
                        raise UserError(f"{one.name}: there is no frame in it")
            except Exception as error:  # a decoder may raise anything for a damaged file
                if getattr(error.__cause__ or error, "errno", None) in FULL:
                    raise  # the disk is full, which is no fault of the file
                known = isinstance(error, UserError)
                self.failures[number] = one_line(error) if known else f"{one.name}: {type(error).__name__}: {error}"


class PartPredictor:
    """Computes the results of parts, with one copy of the weights.

    Args:
        work: what is to be done.

    Raises:
        UserError: the weights cannot be used, or are not those of the job.
    """

    def __init__(self, work: Work) -> None:
        config = work.config
        found = [digest(resolve(one)) for one in config.weights]
        if found != list(work.digests):
            raise UserError(f"--weights {config.weights[0]}: not the file that the job began with")
        self.work = work
        self.detector = open_detector(config.weights, config.device, config.precision, config.fusion)
        if config.tta or config.tile or len(config.weights) > 1 or self.detector.metadata.shape:
            torch.set_num_threads(1)  # several views of one image: how many threads take them changes bits
        keep = make_postprocess(config, self.detector, config.conf)
        self.predictor = self.detector.predictor(keep, config.imgsz, config.batch, config.tta, config.tile)

    def __call__(self, part: Part) -> bytes:
        """The Parquet file of a part. Equal parts give equal bytes.

        Raises:
            UserError: the disk is full.
        """
        target = BytesIO()
        write_rows(target, self._rows(part), COLUMNS, self.work.column, self.work.fields)
        return target.getvalue()

    def _rows(self, part: Part) -> Iterator[dict[str, Any]]:
        """A row for each image or frame, and one for each input that could not be read, or not all of it."""
        frames, ids = PartFrames(part, self.work.config.vid_stride, self.work.config.max_pixels), self.detector.metadata
        reached = part.first
        with closing(self.predictor(frames)) as pairs:
            for frame, result in pairs:
                yield from _failed(part, frames, reached, frame.part)
                reached = frame.part
                described = result.described(self.detector.names, ids.category_ids)
                yield {"input": frame.part} | result_row(frame, described, self.work.column)
        yield from _failed(part, frames, reached, part.first + len(part.inputs))


def _failed(part: Part, frames: PartFrames, start: int, end: int) -> Iterator[dict[str, Any]]:
    """The rows of the inputs from `start` to before `end` that could not be read."""
    for number in range(start, end):
        if number in frames.failures:
            yield {"input": number, "image": part.inputs[number - part.first].name, "error": frames.failures[number]}
