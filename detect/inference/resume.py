"""How far a run of `detect predict` is, noted after each file of its source, for `--resume` to continue there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from detect.errors import UserError
from detect.types import Frame

RUN = "run"  # the key of the line that says what a run is; the other lines are names of files, and notes


@dataclass(frozen=True)
class Note:
    """What is done once a file of the source is.

    part: the number of the file in the source; frames, records: how many were written so far; size: of the results file
    then, in bytes; pages, video: of the file; objects: how many of each class it had; unread: files that were left out
    since the note before, by number, with the reason.
    """

    part: int
    frames: int
    records: int
    size: int
    pages: int = 1
    video: bool = False
    objects: dict[str, int] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """The note as a line of JSON, without what is as usual."""
        usual = asdict(Note(-1, -1, -1, -1))
        return json.dumps({name: value for name, value in asdict(self).items() if value != usual[name]})

    def frame(self, name: str) -> Frame:
        """A frame of the file, without an image."""
        return Frame(np.zeros((0, 0, 3), np.uint8), name, 0, 0.0 if self.video else None, self.pages, self.part)


class Listing:
    """The list of a run, as `OutputFolder` has it in a file, taken apart.

    run: what the run is, None if its list does not say; notes: those after each file of the source; lines: all up to
    the last note; opened: files that were listed before the first note, and grow with the run; later: files that were
    listed after the last note.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.run: Mapping[str, Any] | None = None
        self.notes = list[Note]()
        self.opened, self.later, self.lines = list[str](), list[str](), list[str]()
        read = list[str]()
        for line in lines:
            read.append(line)
            value = _parsed(line)
            if isinstance(value, str):
                self.later.append(line)
            elif isinstance(value, dict) and RUN in value:
                self.run = value[RUN]
            elif note := _note(value):
                if not self.notes:
                    self.opened = self.later
                self.notes.append(note)
                self.lines += read
                self.later, read = [], []

    def require_same(self, run: Mapping[str, Any], out: Any) -> None:
        """Raise a UserError unless the list is of the same `run`; it says what differs."""
        require_same(self.run if isinstance(self.run, Mapping) else {}, run, out, "start anew without --resume")


def require_same(old: Mapping[str, Any], run: Mapping[str, Any], out: Any, remedy: str) -> None:
    """Raise a UserError, which says what differs, unless the `old` run in the folder `out` is `run`."""
    for name, value in run.items():
        if old.get(name) != value:
            change = f"{name} {old.get(name)!r}, not {value!r}" if name.startswith("--") else f"other {name}"
            raise UserError(f"{out} was begun with {change}: give the same, or {remedy}")


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # a line that was being written when the run was killed
        return None


def _note(value: Any) -> Note | None:
    try:
        note = Note(**value)
    except TypeError:
        return None
    numbers = (note.part, note.frames, note.records, note.size, note.pages)
    tables = isinstance(note.objects, dict) and isinstance(note.unread, dict)
    return note if tables and all(isinstance(one, int) and one >= 0 for one in numbers) else None
