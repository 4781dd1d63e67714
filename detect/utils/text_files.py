"""Reads text files in the usual encodings of lists, labels and tables."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from os import PathLike, fspath

from detect.errors import UserError
from detect.utils.atomic_io import open_file, read_bytes

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | PathLike[str], most: int = 0, errors: str = "strict") -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32, as Windows programs write them, with or without a mark.

    Args:
        path: the file.
        most: the most bytes it may have (0: any number).
        errors: as for `bytes.decode`; lists of file names take "surrogateescape", as Python does for names of files.

    Raises:
        UserError: the file is missing, cannot be read, is in another encoding, or has more than `most` bytes.
    """
    name = fspath(path)
    try:
        data = read_bytes(name, most)
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return decode(data, name, errors)


def text_lines(path: str | PathLike[str], errors: str = "strict") -> Iterator[str]:
    """The lines of a text file, one after the other, without their ends; otherwise as `read_text`."""
    name = fspath(path)
    try:
        with open_file(name) as file:
            encoding = _encoding(file.peek(4)[:4])
            with io.TextIOWrapper(file, encoding, errors, newline="\n") as text:
                yield from (line.removesuffix("\n") for line in text)
    except UnicodeDecodeError as error:
        raise _undecodable(name, encoding, error) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def decode(data: bytes, name: object, errors: str = "strict") -> str:
    """As `read_text`, from the bytes of a file; `name` is for messages."""
    encoding = _encoding(data)
    try:
        return data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise _undecodable(name, encoding, error) from None


def _undecodable(name: object, encoding: str, error: UnicodeDecodeError) -> UserError:
    what = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
    return UserError(f"{name}: cannot be read: not {what} at byte {error.start}; save it as UTF-8")


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    if b"\0" in data[:2]:  # half of each ASCII letter in UTF-16 is a zero
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    return "utf-8"
