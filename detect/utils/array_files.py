"""Files of arrays in the user's cache folder: mapped instead of read, and used only if they are whole.

A file is the length of a header, the header (json), the arrays, and the SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from detect.utils.atomic_io import open_file, replace_file

_DIGEST = 32  # bytes at the end of a file


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return what a file says and its arrays, in memory of which a page is read when it is used; None if it is damaged.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length <= _DIGEST + 8 or sha256(path, length - _DIGEST) != _tail(path, length):
            return None
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(mapped[:8], "little")
    said = json.loads(mapped[8:start])
    entries = said.pop("arrays").items()
    os.utime(path)  # it is in use: `make_room` removes others first
    return said, {
        name: np.frombuffer(mapped, kind, math.prod(shape), start + place).reshape(shape)
        for name, (place, kind, shape) in entries
    }


def write_arrays(path: Path, said: dict[str, Any], arrays: dict[str, np.ndarray], most: int) -> None:
    """Write a file, unless it is too large for the cache or the disk; others that are older make room for it.

    Args:
        path: the file.
        said: what else it says, as json has it.
        arrays: numbers of any kind.
        most: bytes of all such files in its folder.

    Raises:
        UserError: the folder cannot be written.
    """
    size = sum(array.nbytes for array in arrays.values())
    folder = next(one for one in path.parents if one.exists())
    if size <= most and 2 * size <= shutil.disk_usage(folder).free:
        _make_room(path, most - size)
        replace_file(path, lambda part: _write(part, said, arrays), durable=False)


def sha256(path: Path, length: int = -1) -> bytes:
    """Return the SHA-256 of a file, or of its first `length` bytes. Raises OSError where it cannot be read."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
    with open_file(path) as file:
        while length and (count := file.readinto(buffer[: length if 0 < length < len(buffer) else None])):
            digest.update(buffer[:count])
            length -= count if length > 0 else 0
    return digest.digest()


def _tail(path: Path, length: int) -> bytes:
    with open_file(path) as file:
        file.seek(length - _DIGEST)
        return file.read()


def _write(part: Path, said: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Fill a file; the arrays of the largest elements come first, so that each lies where it can be mapped."""
    ordered, entries, place = sorted(arrays.items(), key=lambda item: -item[1].itemsize), {}, 0
    for name, array in ordered:
        entries[name] = [place, array.dtype.str, array.shape]
        place += array.nbytes
    header = json.dumps({**said, "arrays": entries}).encode()
    header += b" " * (-len(header) % 8)
    pieces: list[Any] = [len(header).to_bytes(8, "little"), header]
    digest = hashlib.sha256()
    with part.open("wb") as file:
        for piece in [*pieces, *(np.ascontiguousarray(array).reshape(-1) for _, array in ordered)]:
            file.write(piece)
            digest.update(piece)
        file.write(digest.digest())


def _make_room(path: Path, most: int) -> None:
    """Remove the files beside `path` that were used the longest ago, until the others have at most `most` bytes."""
    files = [
        (one.stat().st_mtime, one.stat().st_size, one) for one in path.parent.glob(f"*{path.suffix}") if one != path
    ]
    for _, size, one in sorted(files, reverse=True):
        most -= size
        if most < 0:
            with suppress(OSError):
                one.unlink()
