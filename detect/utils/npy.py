"""Reads arrays from numpy's files, whose declared size is compared with the file before memory is allocated."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from detect.utils.atomic_io import open_file

# Raised by zipfile and numpy for files that are damaged or of another kind.
UNREADABLE = (
    *(OSError, ValueError, EOFError, RuntimeError, OverflowError, TypeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LARGE, _RATIO = 1 << 28, 100  # bytes, and times the compressed size: what exceeds both is a decompression bomb
_LAST_LETTER = 0x10FFFF


def read_npy(file: BinaryIO, length: int) -> np.ndarray:
    """The array in a file of `length` bytes. No Python objects are made, and nothing larger than the file.

    Raises:
        ValueError: (or another of UNREADABLE) the file holds no array of numbers, or is damaged.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version} of numpy's format")
    shape, _, kind = _HEADERS[version](file)
    if kind.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    if kind.subdtype or kind.fields:  # "1U1" is such a one too: its letters would go unchecked
        raise ValueError(f"its elements are arrays or records themselves, {kind}: it must hold numbers or words")
    wanted, there = math.prod(shape) * kind.itemsize, length - file.tell()
    if wanted != there or not kind.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"its header says {kind} {list(shape)}, {wanted} bytes, and it has {there}: it is damaged")
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False)
    if kind.kind == "U" and array.size:
        codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype("u4").newbyteorder(kind.byteorder))
        if codes.max() > _LAST_LETTER:
            raise ValueError("it holds character codes that do not exist: it is damaged")
    return array


def read_npz(path: Path, name: str) -> np.ndarray:
    """The array of that name in an npz file.

    Raises:
        KeyError: there is none of that name.
        ValueError: as `read_npy`.
    """
    with open_file(path) as opened, zipfile.ZipFile(opened) as archive:
        member = next((m for m in archive.infolist() if m.filename in (name, f"{name}.npy")), None)
        if member is None:
            raise KeyError(name)
        if member.file_size > _LARGE and member.file_size > _RATIO * member.compress_size:
            many = member.file_size // max(1, member.compress_size)
            raise ValueError(f"it unpacks to {many} times its size: write it with numpy.savez, uncompressed")
        with archive.open(member) as file:
            return read_npy(file, member.file_size)  # type: ignore[arg-type]  # it has all methods that are used
