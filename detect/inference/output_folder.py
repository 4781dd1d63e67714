"""The output folder of predict: a distinct name for each file of a run, and a list of the files written.

By the list the next run into the same folder removes exactly those files, so that two runs never mix.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from detect.errors import UserError
from detect.inference.resume import RUN, Listing, Note
from detect.types import Frame
from detect.utils.atomic_io import replace_text
from detect.utils.locks import LOCK, locked_folder

LIST = ".predict.jsonl"  # in the folder: a json string a line, the path of a file relative to the folder
FOLDERS = ("labels", "crops", "masks")  # folders of a run, whose names folders of the source must not have
_SUFFIX = re.compile(r"\.\w*[A-Za-z]\w*$")
_UNSAFE = re.compile(r'[<>:"|?*\\\x00-\x1f]')  # in file names, on one system or another
_ROOM = 255  # the most bytes of a file name in common file systems
_NUMBERS = re.compile(r"(_\d+)+$")


class OutputFolder:
    """The files that a run writes into a folder; those of the run before are removed when it is opened.

    Nothing else is removed, nothing is overwritten, and no link is followed. A run that continues another one keeps the
    files of what was done, and `notes` has how far that is.

    Args:
        folder: created if it does not exist.
        sources: the files that this run reads.
        run: what must be the same in the run before for it to be continued; None: this run is never continued.
        resume: continue the run before, if there is one that has done something.

    Raises:
        UserError: another run is writing into the folder, a source of this run was written by the run before, or the
            run before is to be continued, and was another one.
    """

    def __init__(
        self, folder: Path, sources: Iterable[Path] = (), run: Mapping[str, Any] | None = None, resume: bool = False
    ) -> None:
        self.folder, self.root, self.notes, self.opened = folder, folder, list[Note](), set[Path]()
        path = folder / LIST
        with ExitStack() as stack:
            stack.enter_context(locked_folder(folder))
            if path.is_symlink():
                raise UserError(f"{path} is a link: remove it, or choose another --out")
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
            begin = [] if run is None else [json.dumps({RUN: run})]
            if resume and run is not None and (before := Listing(lines)).notes:
                before.require_same(run, folder)
                self.notes, self.opened = before.notes, set(filter(None, map(self._listed, before.opened)))
                lines, begin = before.later, before.lines
            self._clear(lines, {source.resolve() for source in sources} if lines else set())
            # a new file: the old one may have other hard links
            replace_text(path, "".join(f"{line}\n" for line in begin))
            self.file = stack.enter_context(path.open("a", encoding="utf-8"))
            self.stack = stack.pop_all()

    @property
    def done(self) -> Note | None:
        """How far the run is that this one continues; None for a run that begins."""
        return self.notes[-1] if self.notes else None

    def within(self, name: str) -> OutputFolder:
        """A folder inside, which is created, as part of the same run: its files are in the same list. "": this one."""
        if not name:
            return self
        inside = copy(self)
        inside.folder = self.folder / name
        inside.folder.mkdir(exist_ok=True)
        return inside

    def is_finished(self, results: Path, part: Path) -> bool:
        """Whether the run that this one continues has come to its end: its results file has its name."""
        return bool(self.notes) and results in self.opened and results.is_file() and not part.exists()

    def _clear(self, lines: Sequence[str], sources: set[Path]) -> None:
        """Remove the files that lines of the list name, and the folders that are then empty."""
        files = [path for line in lines if (path := self._listed(line))]
        if taken := next((path for path in files if path.resolve() in sources), None):
            raise UserError(f"--source {taken} was written by an earlier predict into --out: choose another --out")
        for path in files:
            path.unlink()
        folders = {parent for path in files for parent in path.parents if self.folder in parent.parents}
        for folder in sorted(folders, key=lambda one: len(one.parts), reverse=True):
            with suppress(OSError):  # something else is in it
                folder.rmdir()

    def _listed(self, line: str) -> Path | None:
        """The file that a line names, if it lies inside the folder and no link leads to it."""
        try:
            name = json.loads(line)
            parts = PurePosixPath(name).parts
        except (ValueError, TypeError):
            return None
        path = self.folder
        for part in parts:
            path /= part
            if part in ("..", "/") or path.is_symlink():
                return None
        return path if parts and path.is_file() and path.name != LIST else None

    def is_empty(self) -> bool:
        """Whether the folder holds nothing but the list."""
        return {path.name for path in islice(self.folder.iterdir(), 3)} <= {LIST, LOCK}

    def require_free(self, path: Path) -> None:
        """Raise a UserError if a file of that name exists."""
        if os.path.lexists(path):
            raise UserError(f"{path} is there, and predict did not write it: remove it, or choose another --out")

    def claim(self, path: Path) -> Path:
        """List a file that is about to be written, and create its folder.

        Raises:
            UserError: the file exists, and is not one that grows in a run which this one continues.
        """
        if path in self.opened:
            return path
        self.require_free(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.note(path)
        return path

    def note(self, path: Path) -> None:
        """List a file of this run."""
        self._write(json.dumps(path.relative_to(self.root).as_posix()))

    def note_done(self, note: Note) -> None:
        """List how far the run is."""
        self._write(note.line())

    def _write(self, line: str) -> None:
        self.file.write(line + "\n")
        self.file.flush()

    def close(self) -> None:
        """End the run; its list stays in the folder."""
        self.stack.close()


class OutputPaths:
    """File names after the names of frames: distinct within the run, and never that of a source."""

    def __init__(self, written: OutputFolder, sources: Iterable[Path] = ()) -> None:
        self.written, self.root = written, written.folder
        self.taken = {path.resolve() for path in sources}
        self.stems = {_base(path) for path in self.taken}  # after which frames may not be numbered
        self.families: set[Path] = set()  # stems whose frames are numbered: STEM_000001
        self.clip, self.last, self.stem = "", -1, self.root

    def within(self, folder: str) -> OutputPaths:
        """The same for a folder inside: its names are distinct from those given here."""
        paths = OutputPaths(self.written)
        paths.root = self.root / folder
        paths.taken, paths.stems, paths.families = self.taken, self.stems, self.families
        return paths

    def give(self, name: str, suffix: str, numbered: bool = False) -> Path:
        """A path that was not given before.

        Args:
            name: the name of a frame; its folders stay, its suffix does not.
            suffix: that of the path.
            numbered: reserve all names that consist of the path and a number, too.
        """
        named = PurePosixPath(_without_suffix(name)).parts
        parts = [_UNSAFE.sub("_", part) for part in named if part not in ("/", "..")]
        if len(parts) > 1 and parts[0] in FOLDERS:
            parts[0] += "-2"
        stem = self.root.joinpath(*parts)
        room = _ROOM if suffix else _ROOM - 24  # for numbers and a suffix
        path, count = stem.with_name(_shortened(stem.name, suffix, room)), 1
        while not self._free(real := path.resolve(), numbered):
            count += 1
            path = stem.with_name(_shortened(stem.name, f"-{count}{suffix}", room))
        self.taken.add(real)
        if numbered:
            self.families.add(real)
        else:
            self.stems.add(_base(real))
        return path

    def _free(self, path: Path, numbered: bool) -> bool:
        return path not in self.taken and (path not in self.stems if numbered else _base(path) not in self.families)

    def of(self, frame: Frame, suffix: str = "") -> Path:
        """The path for a frame; frames of one video, or pages of one file, share a name and are numbered."""
        if frame.time is None and frame.pages == 1:
            return self.give(frame.name, suffix)
        if frame.name != self.clip or frame.index <= self.last:
            self.clip, self.stem = frame.name, self.give(frame.name, "", numbered=True)
        self.last = frame.index
        return self.stem.with_name(f"{self.stem.name}_{frame.index:06d}{suffix}")


def _shortened(stem: str, end: str, room: int) -> str:
    """Stem and end of a file name in at most `room` bytes: a longer stem is cut and gets a checksum."""
    coded, room = os.fsencode(stem), room - len(end)
    if len(coded) <= room:
        return stem + end
    return f"{coded[: room - 9].decode(errors='ignore')}-{hashlib.sha256(coded).hexdigest()[:8]}{end}"


def _base(path: Path) -> Path:
    """The path without its suffix and the numbers at its end."""
    short = _NUMBERS.sub("", _without_suffix(path.name))
    return path.with_name(short) if short.strip(".") else path


def _without_suffix(name: str) -> str:
    """A name without its suffix, unless only dots would be left, which name a folder."""
    stem = _SUFFIX.sub("", name)
    return stem if stem.rpartition("/")[2].strip(".") else name
