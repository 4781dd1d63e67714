"""Files of arrays in the user's cache folder: mapped instead of read, and used only if they are whole.

A file is the length of a header, the header (json), the arrays, and a sum of all that, which tells damage: the CRC-32
of the sums of the 64-bit words of each part. A CRC of everything would take most of the time of a start.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from detect.utils.atomic_io import open_file, replace_file

_SUM = 4  # bytes at the end of a file
_CHUNK = 1 << 20  # bytes that are read at once


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return what a file says and its arrays, in memory of which a page is read when it is used; None if it is damaged.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length <= _SUM + 8 or _sum(file, length - _SUM) != int.from_bytes(file.read(_SUM), "little"):
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


def sha256(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        for part in _parts(file, os.fstat(file.fileno()).st_size):
            digest.update(part)
    return digest.digest()


def _sum(file: BufferedIOBase, length: int) -> int:
    """The sum of the next bytes of a file: any bit of them changes it."""
    found = 0
    for part in _parts(file, length):
        words = len(part) // 8 * 8
        found = zlib.crc32(np.frombuffer(part[:words], np.uint64).sum().tobytes(), found)
        found = zlib.crc32(part[words:], found)
    return found


def _parts(file: BufferedIOBase, length: int) -> Iterator[memoryview]:
    """The next bytes of a file, in parts of which each takes the place of the one before it."""
    buffer = memoryview(bytearray(_CHUNK))
    while length and (count := file.readinto(buffer[:length])):  # a part is whole but for the last: files are regular
        yield buffer[:count]
        length -= count


def _write(part: Path, said: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Fill a file; the arrays of the largest elements come first, so that each lies where it can be mapped."""
    ordered, entries, place = sorted(arrays.items(), key=lambda item: -item[1].itemsize), {}, 0
    for name, array in ordered:
        entries[name] = [place, array.dtype.str, array.shape]
        place += array.nbytes
    header = json.dumps({**said, "arrays": entries}).encode()
    header += b" " * (-len(header) % 8)
    with part.open("w+b") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array).reshape(-1).data)
        length = file.tell()
        file.seek(0)
        found = _sum(file, length)
        file.write(found.to_bytes(_SUM, "little"))


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
