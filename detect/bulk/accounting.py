"""What the parts of a finished job say: every input once, as detections, as none, or as a failure with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detect.bulk.manifest import Manifest, Part
from detect.errors import UserError
from detect.utils.arrow import require_arrow
from detect.utils.atomic_io import replace_file
from detect.utils.names import counted, json_text

FAILURES = "failures.jsonl"
_ROWS = 4096  # that are in memory at once


@dataclass
class Account:
    """The inputs of a job by what became of them, its frames, and the objects of each class."""

    found: int = 0
    empty: int = 0
    failed: int = 0
    frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    first_failure: str = ""

    def text(self) -> str:
        """One line that tells everything."""
        said = ", ".join(f"{count:,} {name}" for name, count in self.objects.most_common(12)) or "nothing"
        inputs = counted(self.found + self.empty + self.failed, "input")
        parts = f"{self.found:,} with predictions, {self.empty:,} without, {self.failed:,} failed"
        return f"{inputs} ({counted(self.frames, 'frame')}): {parts}; {said}"


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
    found = Account()

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            for one in manifest.all_parts():
                for line in _take(found, manifest, one):
                    found.first_failure = found.first_failure or str(line["error"])
                    file.write(json_text(line) + "\n")

    replace_file(manifest.folder / FAILURES, write)
    return found


def _take(found: Account, manifest: Manifest, part: Part) -> Iterator[dict[str, Any]]:
    """Count the inputs of a part. Yields its failures."""
    states = [""] * len(part.inputs)
    for row in rows_of(manifest, part, "input", "error", f"{manifest.column}.list.element.category"):
        place, records = row["input"] - part.first, row[manifest.column] or ()
        if not 0 <= place < len(states) or states[place] == "failed":
            raise _wrong(manifest, part, f"a row for input {row['input']}")
        if row["error"] is not None:
            states[place] = "failed"
            name, where = part.inputs[place]
            yield {"input": row["input"], "image": name, "place": where, "error": row["error"]}
            continue
        found.frames += 1
        found.objects.update(record["category"] for record in records)
        states[place] = "found" if records else states[place] or "empty"
    if not all(states):
        raise _wrong(manifest, part, f"no row for input {part.first + states.index('')}")
    count = Counter(states)
    found.found, found.empty = found.found + count["found"], found.empty + count["empty"]
    found.failed += count["failed"]


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
