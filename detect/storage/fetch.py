"""The contents of placeholders: from the cache, or fetched whole, checked to be the listed version, and kept."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from detect.errors import UserError
from detect.storage import blobs
from detect.storage.shards import member_of, open_member
from detect.storage.trees import Place, locate, placeholder
from detect.storage.tries import attempt
from detect.storage.urls import safe, stamp, version
from detect.utils.atomic_io import TREES, open_file, replace_file

_THREADS = 16  # requests at a time that fetch ahead, of a process
_AHEAD = 1024  # files that wait to be fetched ahead
_OPENED = 3  # how often a file is opened that another process may be removing from the cache


class _State:
    """What a process shares among its threads: locks, so that one thread fetches a file, and those that fetch ahead."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child must: it has neither the threads nor who holds the locks."""
        self.locks = [threading.Lock() for _ in range(64)]
        self.queue: queue.Queue[str] = queue.Queue(_AHEAD)
        self.threads: list[threading.Thread] = []


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.reset)


def open_stored(path: str) -> BufferedReader | None:
    """Open a file of a tree, or within a shard; None for a path that is neither.

    Raises:
        OSError: there is no such file.
        UserError: it cannot be fetched, has changed, or the shard cannot be read.
    """
    if (member := member_of(path)) is not None:
        return open_member(member, part_of, local_path)
    for tried in range(1, _OPENED + 1):
        if (local := content(path)) is None:
            return None
        try:
            return open(local, "rb")
        except FileNotFoundError:
            if tried == _OPENED:
                raise
    return None


def content(path: str) -> str | None:
    """The file in the cache that holds the content of a placeholder; None for a path of no tree, and for a folder.

    Raises as `open_stored`.
    """
    if (place := locate(path)) is None or not place.name or os.path.isdir(path):
        return None
    size, stamped = _version(path, place)
    blob = blobs.blob_path(place.url, stamped)
    with _state.locks[hash(blob) % len(_state.locks)]:
        if not blobs.is_kept(blob):
            blobs.require_room(safe(place.url), size)
            _download(place, path, blob, size, stamped)
    return blob


def local_path(path: str | os.PathLike[str]) -> str:
    """The path of a regular file with the content of `path`, for libraries that open files themselves."""
    name = os.fspath(path)
    return content(name) or name if TREES in name else name


def part_of(path: str, start: int, size: int) -> bytes | None:
    """`size` bytes from `start` on of a file, of which the cache need not hold the rest; None for a path of no tree."""
    if (place := locate(path)) is None:
        return None
    whole, stamped = _version(path, place)
    if start + size > whole >= 0:
        return b""
    blob = blobs.blob_path(place.url, stamped)
    if blobs.is_kept(blob):
        with open(blob, "rb") as file:
            file.seek(start)
            return file.read(size)
    blob = blobs.blob_path(place.url, stamped, f"{start}+{size}")
    with _state.locks[hash(blob) % len(_state.locks)]:
        if not blobs.is_kept(blob):
            _download(place, path, blob, size, stamped, start)
    with open(blob, "rb") as file:
        return file.read()


def ahead(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Begin to fetch files that will be read soon, in threads; what fails is told when the file is read."""
    for one in paths:
        path = os.fspath(one)
        if TREES not in path:
            continue
        if not _state.threads:
            for _ in range(_THREADS):
                _state.threads.append(threading.Thread(target=_work, args=(_state.queue,), daemon=True))
                _state.threads[-1].start()
        try:
            _state.queue.put_nowait(path)
        except queue.Full:  # it is read when its turn comes
            return


def _work(waiting: queue.Queue[str]) -> None:
    while True:
        path = waiting.get()
        with suppress(Exception):
            open_file(path).close()


def _version(path: str, place: Place) -> tuple[int, int]:
    """The size of an object (-1: unknown) and its version, of which a web server is asked when it is first needed."""
    try:
        status = os.stat(path)
        if status.st_mtime_ns:
            return (status.st_size if os.name != "nt" else -1), status.st_mtime_ns
    except FileNotFoundError:
        if place.tree.listed:
            raise
    try:
        size, stamped = version(attempt(place.url, lambda store, name: store.info(name)))
    except FileNotFoundError:
        raise FileNotFoundError(2, "No such file or directory", path) from None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        placeholder(path, size, stamped)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; let XDG_CACHE_HOME name another folder") from None
    return size, stamped


def _download(place: Place, path: str, blob: str, size: int, stamped: int, start: int = -1) -> None:
    """Fetch an object, or `size` bytes of it, into the cache. Raises UserError where it is no longer the listed one."""

    def write(part: Path) -> None:
        try:
            same = attempt(place.url, lambda store, name: _get(store, name, part, size, stamped, start))
        except FileNotFoundError:
            same = False
        if not same:
            raise _changed(place, path)

    replace_file(Path(blob), write, durable=False)
    blobs.make_room(os.path.getsize(blob))


def _get(store: Any, name: str, part: Path, size: int, stamped: int, start: int) -> bool:
    """Fetch once, and return whether the object is of the version that was listed.

    Raises:
        OSError: what came is not whole.
    """
    if start >= 0:
        data = store.cat_file(name, start=start, end=start + size)
        part.write_bytes(data if len(data) <= size else data[start : start + size])  # a server that knows no ranges
    else:
        try:
            store.get_file(name, str(part), callback=_bounded(size))
        except _TooLargeError:
            return False
    got = part.stat().st_size
    if start < 0 and stamp(stamped // 10**9, got, _md5(part)) == stamped:
        return True
    if version(store.info(name))[1] != stamped:
        return False
    if got != size >= 0:
        raise OSError(f"{got:,} bytes came, of {size:,}")  # cut off: once more
    return True


class _TooLargeError(Exception):
    """A store sends more than it said."""


def _bounded(size: int) -> Any:
    """A counter of fsspec's that ends a download of more bytes than were listed, or than the cache may hold."""
    from fsspec.callbacks import Callback

    most = size if size >= 0 else blobs.limit()

    class Bounded(Callback):
        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > most:
                raise _TooLargeError

    return Bounded()


def _md5(path: Path) -> str:
    """The MD5 of a file: the tag of most objects, which saves asking for it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _changed(place: Place, path: str) -> UserError:
    """The error for an object that is no longer the listed one; a web server is asked anew by the next command."""
    if not place.tree.listed:
        with suppress(OSError):
            os.unlink(path)
    return UserError(
        f"{safe(place.url)}: the object has changed or was removed since the dataset was listed; start the command "
        "again to read the data as they are now"
    )
