"""Large COCO files as they were read last time, in the user's cache folder: a second start reads no json.

Kept is what the json alone says, in its final form, and only where all of it is in order. What depends on the disk,
such as where images lie, is looked at every time. A file is used if it is whole, and if the json has the path and size
that it had, and the same times of modification and change, or else the same SHA-256. No program can set the time of the
last change of a file, so a json that has it is not read at all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from detect.data.annotations import Annotations, encode_names, names_of
from detect.data.federation import Federation
from detect.data.outlines import Outlines
from detect.errors import UserError
from detect.utils.array_files import read_arrays, sha256, write_arrays
from detect.utils.atomic_io import TREES, cache_folder
from detect.utils.locks import locked_in_turn
from detect.utils.names import warn_once

LEAST = 1 << 24  # bytes; a smaller json is read in a fraction of a second
MOST = 10 << 30  # bytes of all files; the ones that were used last stay
_OF_DISK = ("path", "root", "name_bytes", "name_starts")  # of annotations: they are found anew
_GRAIN = 2 * 10**9  # nanoseconds in which a file may change twice at one time
_PARTS: dict[str, Any] = {"outlines": Outlines, "federation": Federation}
_READERS = ("annotations", "categories", "federation", "outlines")  # files that decide what is kept, beside this folder
_WRITERS = dict[Path, Thread]()  # of this process, by the file that they write
Finish = Callable[[dict[str, Any], list[str]], Annotations | None]


class RecordCache:
    """What is kept of one COCO file.

    Args:
        path: the json.
        finish: makes annotations of what is kept, all fields but those that depend on the disk, and of the file names
            in the json; None where the disk has changed so that the json has to be read.

    Attributes:
        found: the annotations, if the file has them.
        kept: what is to be written into it: see `keep`.
    """

    def __init__(self, path: Path, finish: Finish) -> None:
        self.found: Annotations | None = None
        self.path, self.finish, self.identity = path, finish, _identity(path)
        self.settled = TREES not in str(path) and time.time_ns() - max(self.identity[1:3]) > _GRAIN
        name = hashlib.sha256(os.fsencode(os.path.abspath(path)) + _reader().encode()).hexdigest()[:32]
        self.file = cache_folder() / "annotations" / f"{name}.arrays"
        self._digest: Future[bytes] | None = None
        self.kept: tuple[Annotations, list[str], bool] | None = None

    def look(self) -> None:
        """Look for the file's annotations."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
            if not self.file.exists():
                return
            if (kept := read_arrays(self.file)) is None:
                return
            identity, settled, digest = (kept[0].pop(key) for key in ("identity", "settled", "digest"))
            same = settled and identity == self.identity
            if same or (identity[0] == self.identity[0] and digest == self.digest().result().hex()):
                self.found = self.finish(*_restored(*kept))

    def digest(self) -> Future[bytes]:
        """The SHA-256 of the json, for which another thread reads it."""
        if self._digest is None:
            pool = ThreadPoolExecutor(1)
            self._digest = pool.submit(sha256, self.path)
            pool.shutdown(wait=False)
        return self._digest

    def keep(self, made: Annotations, names: list[str], linked: bool) -> None:
        """Have annotations written into the file, once the cache is left.

        Args:
            made: annotations of which all is in order. Nobody may change their arrays.
            names: the file names of their images as the json has them.
            linked: whether the json has URLs of images instead, and the disk tells how much of one is a name.
        """
        self.kept = made, names, linked

    def write_behind(self, lock: AbstractContextManager[Any]) -> None:
        """Write what is `kept` in a thread; a program that ends waits for it.

        Args:
            lock: the lock of the file, which is held until then.
        """
        writer = _WRITERS[self.file] = Thread(target=self._write_under, args=(lock,))
        writer.start()

    def _write_under(self, lock: AbstractContextManager[Any]) -> None:
        with lock:
            try:
                self._write()
            except (OSError, UserError) as error:
                why = "the labels in {} are read anew next time, for the cache cannot be written: {}"
                warn_once(why.format(self.path, error))

    def _write(self) -> None:
        assert self.kept
        (made, names, linked), self.kept = self.kept, None
        digest = self.digest().result().hex()
        if self.identity != _identity(self.path):
            return  # somebody has changed it meanwhile
        said, arrays = _split(made, _OF_DISK)
        arrays["names"], arrays["name_starts"] = encode_names(names)
        said |= {"identity": self.identity, "settled": self.settled, "digest": digest, "linked": linked}
        write_arrays(self.file, said, arrays, MOST)


@contextmanager
def record_cache(path: Path, finish: Finish) -> Iterator[RecordCache | None]:
    """Give the cache of a COCO file: with what it keeps, else while no other process reads that json to fill it.

    None for a small file, and where there can be no cache. What is to be kept is written at the end, by a thread.
    """
    with ExitStack() as stack:
        cache = None
        with suppress(OSError, ValueError, UserError):
            if os.path.getsize(path) >= LEAST:
                cache = RecordCache(path, finish)
                if writer := _WRITERS.pop(cache.file, None):
                    writer.join()
                cache.look()
                if cache.found is None:
                    stack.enter_context(locked_in_turn(cache.file))
                    cache.look()
        yield cache
        if cache and cache.kept:
            cache.write_behind(stack.pop_all())


def _identity(path: Path) -> list[int]:
    """The size of a file, its times of modification and change, and its number."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


@cache
def _reader() -> str:
    """A digest of the code that reads COCO files, so that another version reads them anew."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for file in [*sorted(here.glob("*.py")), *(here.parent / f"{name}.py" for name in _READERS)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _split(whole: Any, without: tuple[str, ...] = (), prefix: str = "") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The fields of a dataclass that json can say, and those that are arrays, with those of its parts."""
    said, arrays = dict[str, Any](), dict[str, np.ndarray]()
    for field in fields(whole):
        value = getattr(whole, field.name)
        if field.name in without:
            continue
        if isinstance(value, np.ndarray):
            arrays[prefix + field.name] = value
        elif is_dataclass(value):
            for found, more in zip((said, arrays), _split(value, (), f"{field.name}."), strict=True):
                found |= more
        else:
            said[prefix + field.name] = value
    return said, arrays


def _restored(said: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], list[str]]:
    """The fields of annotations, of what `_split` gave, and the names in the json."""
    names = names_of(arrays.pop("names"), arrays.pop("name_starts"))
    values: dict[str, Any] = {**said, **arrays}
    for name, kind in _PARTS.items():
        part = {key.partition(".")[2]: values.pop(key) for key in [*values] if key.startswith(f"{name}.")}
        if part:
            values[name] = kind(**{key: tuple(one) if isinstance(one, list) else one for key, one in part.items()})
    values["notes"] = [tuple(note) for note in values["notes"]]
    return values, names
