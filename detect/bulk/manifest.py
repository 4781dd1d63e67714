"""What a bulk job is, written once into its folder: its options, and its inputs, cut into parts that never change.

A part is consecutive inputs; a video is a part of its own, a long one several, each a range of its frames. The result
of part 12 is `part-00012.parquet`, which appears as a whole or not at all. So a job that was killed at any moment is
described by its folder alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detect.data.image_formats import is_image
from detect.errors import UserError
from detect.inference.folder import is_video
from detect.inference.resume import require_same
from detect.inference.video_range import FrameRange
from detect.storage.shards import MEMBER
from detect.storage.trees import url_of
from detect.utils.atomic_io import open_file, replace_file, replace_text
from detect.utils.locks import LOCK

JOB, INPUTS, SKIPPED = "job.json", "inputs.jsonl", "skipped.jsonl"
FORMAT = 1
_RESULT = re.compile(r"part-(\d{5,18})\.parquet")
_FEWEST, _MOST, _PARTS = 16, 1024, 256  # images of a part, and parts of a job of medium size


class Input(NamedTuple):
    """An image or video: its name in the results, and where it is, as an absolute path or a URL."""

    name: str
    place: str


class Part(NamedTuple):
    """Consecutive inputs of a job: the number of the part, that of its first input, and the inputs.

    frames: which of the frames, where the one input is a video of several parts.
    """

    number: int
    first: int
    inputs: Sequence[Input]
    frames: FrameRange | None = None

    def to_json(self) -> str:
        """The part as a line of JSON."""
        return json.dumps(self[: 4 if self.frames else 3])

    @staticmethod
    def from_json(line: str | bytes) -> Part:
        """The part that a line of JSON describes."""
        number, first, inputs, *frames = json.loads(line)
        return Part(number, first, [Input(*one) for one in inputs], FrameRange(*frames[0]) if frames else None)


def part_size(count: int) -> int:
    """How many images a part has by default, of a job of `count` inputs: a matter of the inputs alone.

    Small jobs have parts enough for many workers; large ones have files that are not too small.
    """
    return min(max(count // _PARTS, _FEWEST), _MOST)


def cut(
    files: Iterable[tuple[str, Path]], size: int, ranges: Callable[[Path], Sequence[FrameRange]] = lambda _: ()
) -> Iterator[Part]:
    """Cut the inputs into parts.

    Args:
        files: names and paths.
        size: most images of a part.
        ranges: into what a video is divided, each a part; if nothing, it is a part of its own.
    """
    number, first, inputs = 0, 0, list[Input]()
    for i, (name, path) in enumerate(files):
        alone = is_video(path) or not (is_image(path) or MEMBER.match(str(path)))
        if inputs and (alone or len(inputs) >= size):
            yield Part(number, first, inputs)
            number, first, inputs = number + 1, i, []
        inputs.append(Input(name, url_of(path.absolute())))
        if alone:
            for frames in ranges(path) or (None,):
                yield Part(number, first, inputs, frames)
                number += 1
            first, inputs = i + 1, []
    if inputs:
        yield Part(number, first, inputs)


@dataclass(frozen=True)
class Manifest:
    """A job in its folder.

    run: what must be the same for the job to be continued; parts, inputs: how many; column: of the records, in the
    Parquet files; fields: of a record; skipped: how many files of the source are not read.
    """

    folder: Path
    run: Mapping[str, Any]
    parts: int
    inputs: int
    column: str
    fields: Sequence[str]
    skipped: int = 0

    @staticmethod
    def begin(
        folder: Path,
        run: Mapping[str, Any],
        parts: Iterable[Part],
        column: str,
        fields: Sequence[str],
        skipped: Iterable[str] = (),
    ) -> None:
        """Write a new job into a folder; it has begun once its last file is there.

        Args:
            folder: where.
            run, column, fields: as of the job.
            parts: into which the inputs are cut.
            skipped: a line of JSON for each file of the source that is not read.

        Raises:
            UserError: the folder holds anything else, or cannot be written.
        """
        names = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, INPUTS, SKIPPED))
        if other := next((name for name in names if not name.startswith(".gridhead-")), None):  # the lock of --coco
            raise UserError(f"{folder} holds {other}, and no bulk job: choose an empty folder as --out")
        inputs = 0

        def lines() -> Iterator[str]:
            nonlocal inputs
            for one in parts:
                yield one.to_json()
                inputs = one.first + len(one.inputs)

        about = {"format": FORMAT, "run": run, "parts": write_lines(folder / INPUTS, lines()), "inputs": inputs}
        about |= {"skipped": write_lines(folder / SKIPPED, skipped), "column": column, "fields": list(fields)}
        replace_text(folder / JOB, json.dumps(about, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> Manifest | None:
        """The job in a folder; None where none has begun. Raises UserError where its file is damaged."""
        path = folder / JOB
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise UserError(f"{path} is of another version of gridhead: choose another --out")
            run, parts, inputs = dict(about["run"]), int(about["parts"]), int(about["inputs"])
            return Manifest(folder, run, parts, inputs, about["column"], about["fields"], int(about.get("skipped", 0)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}): choose another --out") from None

    def require_same(self, run: Mapping[str, Any]) -> None:
        """Raise a UserError, which says what differs, unless the job is `run`."""
        require_same(self.run, run, self.folder, "choose another --out")

    def all_parts(self, besides: Collection[int] = frozenset()) -> Iterator[Part]:
        """The parts in their order, without those that have a number `besides`, whose lines are not even parsed."""
        with open_file(self.folder / INPUTS) as file:
            count = 0
            for line in file:
                if count not in besides:
                    yield Part.from_json(line)
                count += 1
        if count != self.parts:
            raise UserError(f"{self.folder / INPUTS} has {count} parts, not {self.parts}: choose another --out")

    def path(self, part: int) -> Path:
        """The file of the results of a part, given its number."""
        return self.folder / f"part-{part:05d}.parquet"

    def missing(self) -> Iterator[Part]:
        """The parts without results when this is called, one after the other: all of them may be too many to hold."""
        names = (_RESULT.fullmatch(path.name) for path in self.folder.iterdir())
        return self.all_parts({int(name[1]) for name in names if name})


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines of text as a whole file. Returns how many. Raises UserError where it cannot be written."""
    count = 0

    def write(part: Path) -> None:
        nonlocal count
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(f"{line}\n")
                count += 1

    replace_file(path, write)
    return count
