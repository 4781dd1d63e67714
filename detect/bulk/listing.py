"""The inputs that a source names, kept on disk: ten million of them are listed and sorted in bounded memory."""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

from detect.errors import UserError
from detect.inference.folder import common_folder, files_of, name_below, natural
from detect.storage.trees import url_of
from detect.utils.names import json_text

T = TypeVar("T")
_RUN = 100_000  # lines that are sorted at once in memory
_RUNS = 200  # sorted files that are open at once


class Listing:
    """The files of a source with their names, in order: may be iterated again and again, and has a length.

    skipped: what else the source holds, and the reason, as lines of JSON.

    Args:
        source, recursive: as of `detect.inference.folder.files_of`.
        folder: where temporary files are kept, which no other process sees and which end with this one.

    Raises:
        UserError: the source has no files, or the folder cannot be written.
    """

    def __init__(self, source: str, recursive: bool, folder: Path) -> None:
        self.folder = folder
        skipped = _Lines(folder)
        self.paths: _Paths = files_of(source, recursive, self._collect, partial(_skip, skipped))
        self.root = common_folder(self.paths)
        self.skipped = _sorted(skipped, folder)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return ((name_below(path, self.root), path) for path in self.paths)

    def _collect(self, paths: Iterable[Path], sort: bool) -> _Paths:
        names = map(str, paths)
        return _Paths(_sorted(names, self.folder, natural, once=True) if sort else _Lines(self.folder, names))


def _skip(skipped: _Lines, path: str, reason: str) -> None:
    skipped.add(json_text({"place": url_of(Path(path).absolute()), "reason": reason}))


class _Lines:
    """Texts in a temporary file, in their order. Several iterators may be used at the same time, after the last add."""

    def __init__(self, folder: Path, texts: Iterable[str] = ()) -> None:
        self.folder, self.count = folder, 0
        self.file = self._written(lambda: tempfile.TemporaryFile(dir=folder, prefix=".gridhead-"))  # noqa: SIM115
        for text in texts:
            self.add(text)
        self._written(self.file.flush)

    def add(self, text: str) -> None:
        """Add a text."""
        self.count += 1
        line = json.dumps(text).encode() + b"\n"  # a path may hold a line end, and bytes that are no text
        self._written(partial(self.file.write, line))

    def _written(self, write: Callable[[], T]) -> T:
        try:
            return write()
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}; free some space") from error

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        self._written(self.file.flush)
        place = 0
        while True:
            self.file.seek(place)
            lines = self.file.readlines(1 << 16)
            place = self.file.tell()
            if not lines:
                return
            yield from map(json.loads, lines)


class _Paths:
    """Lines as paths."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.lines)


def _sorted(texts: Iterable[str], folder: Path, key: Callable[[str], Any] | None = None, once: bool = False) -> _Lines:
    """The texts in their order, or that of a `key`, each `once` where asked for: sorted in bounded memory."""

    def merged(runs: Sequence[_Lines]) -> _Lines:
        found = heapq.merge(*runs, key=key)
        return _Lines(folder, (text for text, _ in groupby(found)) if once else found)

    runs, longer, remaining = list[_Lines](), list[_Lines](), iter(texts)
    while some := sorted(islice(remaining, _RUN), key=key):
        runs.append(_Lines(folder, some))
        if len(runs) == _RUNS:
            longer.append(merged(runs))
            runs = []
    return merged([*longer, *runs])
