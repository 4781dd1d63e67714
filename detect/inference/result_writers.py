"""Sinks of `detect predict` for the results themselves: one file that grows with the run, and can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from detect.errors import UserError
from detect.inference.output_folder import OutputFolder
from detect.inference.parquet import write_parquet
from detect.inference.sink import Sink
from detect.results import Result
from detect.types import Frame
from detect.utils.arrow import require_arrow
from detect.utils.names import json_text

PART = ".part"  # in the name of the results file of an unfinished run


def part_of(path: Path) -> Path:
    """The name of a results file while its run is not finished; Parquet is made of JSON lines at the end."""
    return path.with_name(f"{path.stem}{PART}{path.suffix.replace('.parquet', '.jsonl')}")


def frame_fields(frame: Frame) -> dict[str, Any]:
    """What every results file says of an image: `image`, of a video `frame` and `time`, of a page `frame`."""
    if frame.time is not None:
        return {"image": frame.name, "frame": frame.index, "time": round(frame.time, 6)}
    return {"image": frame.name} | ({"frame": frame.index} if frame.pages > 1 else {})


def result_row(frame: Frame, result: Result, column: str) -> dict[str, Any]:
    """An image with its size in pixels, and all its records in one `column`: a line of JSON, or a row of Parquet."""
    shape = frame.image.shape
    size = {"width": shape[1], "height": shape[0]} if frame.image.ndim == 3 and shape[2] == 3 else {}
    return frame_fields(frame) | size | {column: result.records()}


class ResultsSink(Sink):
    """Base of the sinks for results. The file is called NAME.part.SUFFIX until the run is finished.

    images, records: how many were written. Of a run that is resumed, the file is cut to what was noted as done.
    """

    head = b""

    def __init__(self, written: OutputFolder, name: str, names: Sequence[str], category_ids: Sequence[int]) -> None:
        self.names, self.category_ids = names, category_ids
        self.path = written.claim(written.folder / name)
        self.part = written.claim(part_of(self.path))
        done = written.done
        self.images, self.records = (done.frames, done.records) if done else (0, 0)
        self.file: IO[bytes]
        if done is None:
            self.file = self.part.open("xb")
            self.file.write(self.head)
            return
        if not self.part.is_file() or self.part.stat().st_size < done.size:
            raise UserError(f"{self.part} is missing or cut: leave --resume out, which starts anew")
        self.file = self.part.open("r+b")
        self.file.truncate(done.size)
        self.file.seek(done.size)

    def end_of_file(self) -> None:
        self.file.flush()

    def size(self) -> int:
        """The bytes written so far."""
        return self.file.tell()

    def close(self, finished: bool = True) -> None:
        with self.file:
            self.file.write(self.tail())
            self.file.flush()
            os.fsync(self.file.fileno())
        if finished:
            self.finish()
        elif not self.images:
            self.part.unlink()

    def tail(self) -> bytes:
        """The end of the file."""
        return b""

    def finish(self) -> None:
        """Give the file its name."""
        self.part.replace(self.path)


class JsonSink(ResultsSink):
    """One json file in COCO's results format, in pixels of the source, written as the run goes on.

    Beside COCO's fields each record has `image` (the name of its file) and `category` (the class name); for a frame of
    a video also `frame` (its index) and `time` (seconds), for a page of an image file `frame`. `image_id` counts the
    frames, from 1. Classifications have no box.
    """

    head = b"["

    def write(self, frame: Frame, result: Result, annotated: Any) -> None:
        self.images += 1
        image = {"image_id": self.images} | frame_fields(frame)
        for record in result.described(self.names, self.category_ids).records():
            self.file.write(b",\n" if self.records else b"\n")
            self.file.write(json_text(image | record).encode())
            self.records += 1

    def tail(self) -> bytes:
        return b"\n]\n"


class JsonLinesSink(ResultsSink):
    """A line of JSON for each image, also for one without objects: see `result_row`."""

    def write(self, frame: Frame, result: Result, annotated: Any) -> None:
        self.images += 1
        row = result_row(frame, result.described(self.names, self.category_ids), self.path.stem)
        self.file.write(json_text({"image_id": self.images} | row).encode() + b"\n")
        self.records += len(row[self.path.stem])


class ParquetSink(JsonLinesSink):
    """The rows of `JsonLinesSink` as one Parquet file, which is made of the lines once the run is finished.

    Args:
        written, name, names, category_ids: as of the others.
        fields: the fields of records, those of the task.
    """

    def __init__(
        self,
        written: OutputFolder,
        name: str,
        names: Sequence[str],
        category_ids: Sequence[int],
        fields: Sequence[str],
    ) -> None:
        require_arrow()
        self.fields = fields
        super().__init__(written, name, names, category_ids)

    def finish(self) -> None:
        with self.part.open("rb") as lines:
            rows: Iterator[dict[str, Any]] = map(json.loads, lines)
            write_parquet(self.path, rows, {"image_id": "int64"}, self.path.stem, self.fields)
        self.part.unlink()


def results_sink(
    written: OutputFolder, name: str, names: Sequence[str], category_ids: Sequence[int], fields: Sequence[str]
) -> ResultsSink:
    """The sink that writes a results file of this name, by its suffix.

    Raises:
        UserError: it cannot be written, or Parquet needs a library that is not installed.
    """
    if name.endswith(".parquet"):
        return ParquetSink(written, name, names, category_ids, fields)
    return (JsonLinesSink if name.endswith(".jsonl") else JsonSink)(written, name, names, category_ids)
