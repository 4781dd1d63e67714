"""What the parts of a finished job say: every input once, as detections, as none, or as a failure with its reason.

The rows of an input follow one another, those of a long video over several parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from detect.bulk.manifest import Manifest, Part, write_lines
from detect.errors import UserError
from detect.utils.arrow import require_arrow
from detect.utils.atomic_io import replace_file
from detect.utils.names import counted, json_text

FAILURES = "failures.jsonl"
_ROWS = 4096  # that are in memory at once


@dataclass
class Account:
    """The inputs of a job by what became of them, its frames, and the objects of each class.

    found, empty: inputs with predictions, and without; cut: those of which frames could not be read; failed: those of
    which nothing could; skipped: other files of the source.
    """

    found: int = 0
    empty: int = 0
    cut: int = 0
    failed: int = 0
    skipped: int = 0
    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    first_failure: str = ""

    def text(self) -> str:
        """One line that tells everything."""
        said = ", ".join(f"{count:,} {name}" for name, count in self.objects.most_common(12)) or "nothing"
        inputs = counted(self.found + self.empty + self.cut + self.failed, "input")
        parts = f"{self.found:,} with predictions, {self.empty:,} without, {self.failed:,} failed"
        parts += f", {self.cut:,} read in part" if self.cut else ""
        others = f"; {self.skipped:,} others skipped" if self.skipped else ""
        return f"{inputs} ({counted(self.frames, 'frame')}): {parts}; {said}{others}"


def rows_of(manifest: Manifest, part: Part, *columns: str) -> Iterator[dict[str, Any]]:
    """The rows of the results of a part, in bounded memory.

    Args:
        manifest: the job.
        part: one of its parts.
        columns: those to read. Default: all.

    Raises:
        UserError: the file is missing or damaged.
    """
    pa, path = require_arrow(), manifest.path(part.number)
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=list(columns) or None):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, and --resume makes it again") from None


def account(manifest: Manifest) -> Account:
    """Count what became of each input, and list the failures in FAILURES.

    Raises:
        UserError: a part does not account for each of its inputs, or cannot be read.
    """
    counter = _Counter(manifest)
    write_lines(manifest.folder / FAILURES, map(json_text, counter.failures()))
    return counter.found


class _Counter:
    """Counts the rows of a job, in their order."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.found = manifest, Account(skipped=manifest.skipped)
        self.stride = int(manifest.run.get("--vid-stride", 1))
        # The input that is being counted: its number, how many frames it has, and whether it has objects and errors.
        self.input, self.frames, self.has_objects, self.has_errors = -1, 0, False, False

    def failures(self) -> Iterator[dict[str, Any]]:
        """Count all rows. Yields a line for each that says what could not be read.

        Raises:
            UserError: an input has no row, or one too many.
        """
        for part in self.manifest.all_parts():
            yield from self._take(part)
        self._finish()

    def _take(self, part: Part) -> Iterator[dict[str, Any]]:
        """Count the rows of a part."""
        columns = ("input", "frame", "error", f"{self.manifest.column}.list.element.category")
        end, last, rows = part.first + len(part.inputs), -1.0, 0  # last: the frame of the row before, of the same input
        for row in rows_of(self.manifest, part, *columns):
            number, frame = row["input"], inf if row["error"] is not None else row["frame"] or 0
            if number == self.input + 1:
                self._finish()
                self.input, last = number, -1.0
            if number != self.input or not part.first <= number < end or frame <= last or not _holds(part, frame):
                raise _wrong(self.manifest, part, f"a row for input {number}")
            last, rows = frame, rows + 1
            if row["error"] is not None:
                yield self._failure(row, part)
            else:
                self._count(row[self.manifest.column] or ())
        if self.input != end - 1:
            raise _wrong(self.manifest, part, f"no row for input {self.input + 1}")
        if part.frames and last < inf and rows < part.frames.taken(self.stride):
            raise _wrong(self.manifest, part, f"{counted(rows, 'row')} for {part.frames.length:,} frames")

    def _failure(self, row: dict[str, Any], part: Part) -> dict[str, Any]:
        self.has_errors = True
        self.found.first_failure = self.found.first_failure or str(row["error"])
        name, place = part.inputs[self.input - part.first]
        return {"input": self.input, "image": name, "place": place, "error": row["error"]}

    def _count(self, records: Sequence[dict[str, Any]]) -> None:
        self.frames += 1
        self.has_objects |= bool(records)
        self.found.objects.update(record["category"] for record in records)

    def _finish(self) -> None:
        """Count the input itself, of which there are no more rows."""
        found = self.found
        found.frames += self.frames
        if self.has_errors:
            found.failed, found.cut = found.failed + (not self.frames), found.cut + bool(self.frames)
        elif self.input >= 0:
            found.found, found.empty = found.found + self.has_objects, found.empty + (not self.has_objects)
        self.frames, self.has_objects, self.has_errors = 0, False, False


def _holds(part: Part, frame: float) -> bool:
    """Whether a part may have a row for a frame; those of the last range of a video have no end, nor have errors."""
    if frame == inf or (frames := part.frames) is None:
        return frame >= 0
    return frames.first <= frame and (frames.end is None or frame < frames.first + frames.length)


def _wrong(manifest: Manifest, part: Part, what: str) -> UserError:
    return UserError(f"{manifest.path(part.number)} has {what}: remove it, and --resume makes it again")


def failed_parts(manifest: Manifest) -> list[Path]:
    """The files of the parts that have failures, as they say themselves."""
    return [
        manifest.path(part.number)
        for part in manifest.all_parts()
        if manifest.path(part.number).exists()
        and any(row["error"] is not None for row in rows_of(manifest, part, "error"))
    ]


def write_coco(manifest: Manifest, path: Path) -> None:
    """Write the results of all parts as one file in COCO's results format, as `detect predict` does, row by row.

    Raises:
        UserError: a part cannot be read, or the file cannot be written.
    """

    def write(part: Path) -> None:
        image_id, separator = 0, "\n"
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.write("[")
            for one in manifest.all_parts():
                for row in rows_of(manifest, one):
                    if row["error"] is not None:
                        continue
                    image_id += 1
                    image = {"image_id": image_id} | _present(row, "image", "frame", "time")
                    for record in row[manifest.column] or ():
                        file.write(separator + json_text(image | _present(record, *manifest.fields)))
                        separator = ",\n"
            file.write("\n]\n")

    replace_file(path, write)


def _present(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names if values[name] is not None}
