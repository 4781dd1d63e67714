"""The inputs that a source names, kept on disk: ten million of them are listed and sorted in bounded memory."""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from detect.errors import UserError
from detect.inference.folder import common_folder, files_of, name_below, natural

T = TypeVar("T")
_RUN = 100_000  # paths that are sorted at once in memory
_RUNS = 200  # sorted files that are open at once
_AT_ONCE = 1000  # paths that are written at once


class Listing:
    """The files of a source with their names, in order: may be iterated again and again, and has a length.

    Args:
        source, recursive: as of `detect.inference.folder.files_of`.
        folder: where temporary files are kept, which no other process sees and which end with this one.

    Raises:
        UserError: the source has no files, or the folder cannot be written.
    """

    def __init__(self, source: str, recursive: bool, folder: Path) -> None:
        self.folder = folder
        self.paths: _Paths = files_of(source, recursive, self._collect)
        self.root = common_folder(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return ((name_below(path, self.root), path) for path in self.paths)

    def _collect(self, paths: Iterable[Path], sort: bool) -> _Paths:
        if not sort:
            return _Paths(map(str, paths), self.folder)
        runs, names = list[_Paths](), map(str, paths)
        while some := sorted(islice(names, _RUN), key=natural):
            runs.append(_Paths(some, self.folder))
            if len(runs) == _RUNS:
                runs = [_Paths(_merged(runs), self.folder)]
        return runs[0] if len(runs) == 1 else _Paths(_merged(runs), self.folder)


class _Paths:
    """Paths in a temporary file, in their order."""

    def __init__(self, paths: Iterable[str], folder: Path) -> None:
        self.count, lines = 0, self._counted(paths)
        self.file = _written(folder, lambda: tempfile.TemporaryFile(dir=folder, prefix=".gridhead-"))  # noqa: SIM115
        while some := b"".join(islice(lines, _AT_ONCE)):
            _written(folder, partial(self.file.write, some))
        _written(folder, self.file.flush)

    def _counted(self, paths: Iterable[str]) -> Iterator[bytes]:
        for path in paths:
            self.count += 1
            yield json.dumps(path).encode() + b"\n"  # a path may hold a line end, and bytes that are no text

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.names())

    def names(self) -> Iterator[str]:
        """The paths as text. Several iterators may be used at the same time."""
        place = 0
        while True:
            self.file.seek(place)
            lines = self.file.readlines(1 << 16)
            place = self.file.tell()
            if not lines:
                return
            yield from map(json.loads, lines)


def _written(folder: Path, write: Callable[[], T]) -> T:
    try:
        return write()
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; free some space") from error


def _merged(runs: Sequence[_Paths]) -> Iterator[str]:
    return heapq.merge(*(run.names() for run in runs), key=natural)
