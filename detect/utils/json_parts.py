"""Reads a json file of any length part by part: an object whose long lists of records never lie in memory as a whole.

A fast parser (msgspec) reads the parts. It takes what is good json; what it refuses, and everything that only a strict
parser finds, such as a key that comes twice, is left to `detect.utils.json_files`, with its errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from detect.utils.atomic_io import open_file
from detect.utils.json_files import unique_keys

SIZE = 1 << 18  # bytes of a part: what is parsed stays in the processor's cache
SHORT = 1 << 10  # bytes in which a value is looked for first
LONGEST = 1 << 28  # bytes of one record
_TRIES = 64  # ends of a list that are tried in one part
_SPACE = re.compile(rb"[ \t\n\r]*")
_NEXT = re.compile(rb"\}([ \t\n\r]*,[ \t\n\r]*)(?=\{)")
_END = re.compile(rb"\}[ \t\n\r]*\]")
_KEY = re.compile(rb'"[^"\\]*"')
_COLONS = (b'":', b" :", b"\n:", b"\r:", b"\t:")  # every one between a key and its value is among them
Take = Callable[[list[dict[str, Any]]], object]


class _UnusualError(ValueError):
    """This file is for another reader."""


def read_in_parts(path: Path, lists: Mapping[str, Take]) -> dict[str, Any] | None:
    """Read an object from a json file.

    Args:
        path: the file.
        lists: the keys of lists of objects; their functions are given some objects at a time, all in the end.

    Returns:
        The object, with None under those of the keys that it has; or None where the file is broken, is not such an
        object, or has anything in it that this reader does not take. The functions may have been given objects then.

    Raises:
        OSError: the file cannot be read.
    """
    with open_file(path) as file:
        try:
            return _Reader(file, lists).read()
        except (_UnusualError, ValueError, RecursionError, msgspec.MsgspecError):
            return None


class _Reader:
    """The bytes of a file from `place` on, of which `data` holds the next."""

    def __init__(self, file: BufferedReader, lists: Mapping[str, Take]) -> None:
        self.file, self.lists = file, lists
        self.data, self.place, self.ended = b"", 0, False
        self.decode = msgspec.json.Decoder().decode
        self.strict = json.JSONDecoder(object_pairs_hook=unique_keys)

    def read(self) -> dict[str, Any]:
        """Read the object."""
        pairs: list[tuple[str, Any]] = []
        self._skip(b"{")
        while not pairs or self._next() == b",":
            if pairs:
                self._skip(b",")
            key = self._key()
            self._skip(b":")
            pairs.append((key, self._list(key) if key in self.lists else self._value()))  # type: ignore[func-returns-value]
        self._skip(b"}")
        if self._next():
            raise _UnusualError("more than one value")
        return unique_keys(pairs)

    def _more(self) -> None:
        """Hold more bytes. Raises _UnusualError at the end of the file, and where one value is too long."""
        if self.ended or len(self.data) - self.place > LONGEST:
            raise _UnusualError("no end of a value")
        added = self.file.read(max(SIZE, len(self.data) - self.place))
        self.ended = not added
        self.data, self.place = self.data[self.place :] + added, 0

    def _next(self) -> bytes:
        """The next byte that is no space; b"" at the end of the file."""
        while True:
            self.place = _SPACE.match(self.data, self.place).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.place < len(self.data) or self.ended:
                return self.data[self.place : self.place + 1]
            self._more()

    def _skip(self, byte: bytes) -> None:
        if self._next() != byte:
            raise _UnusualError(f"no {byte!r}")
        self.place += 1

    def _key(self) -> str:
        self._next()
        while not (found := _KEY.match(self.data, self.place)):
            self._more()
        self.place = found.end()
        return str(self.decode(found[0]))

    def _value(self) -> Any:
        """Any value, read by the strict parser, which gets more bytes until it has enough: most values are short."""
        self._next()
        length = SHORT
        while True:
            text = self.data[self.place : self.place + length].decode("utf-8", "surrogateescape")
            try:
                value, end = self.strict.raw_decode(text)
            except json.JSONDecodeError:
                value, end = None, len(text)  # it may be the end of the bytes that is wrong
                if self.ended and length >= len(self.data) - self.place:
                    raise
            else:
                if end < len(text) or (self.ended and length >= len(self.data) - self.place):
                    read = text[:end].encode("utf-8", "surrogateescape")
                    read.decode("utf-8")  # bytes that are no text are refused
                    self.place += len(read)
                    return value
            if length >= len(self.data) - self.place:
                self._more_or_end()
            length *= 2

    def _list(self, key: str) -> None:
        """Give the function of a key its list."""
        self._skip(b"[")
        last = self._next() == b"]"
        while not last:
            records, last = self._part()
            self.lists[key](records)
        self._skip(b"]")

    def _part(self) -> tuple[list[dict[str, Any]], bool]:
        """The next objects of a list, and whether they are its last.

        Where a part ends is guessed; the guess is right if what lies before it is a list of whole objects.
        """
        self._next()
        length = SIZE
        while True:
            while len(self.data) - self.place < 2 * length and not self.ended:
                self._more_or_end()
            cut = _NEXT.search(self.data, self.place + length)
            if cut and (records := self._parsed(cut.start() + 1)) is not None:
                self.place = cut.end()
                return records, False
            ends = _END.finditer(self.data, self.place, cut.start() if cut else len(self.data))
            for _, end in zip(range(_TRIES), ends, strict=False):
                if (records := self._parsed(end.start() + 1)) is not None:
                    self.place = end.start() + 1
                    return records, True
            if self.ended or length > LONGEST:
                raise _UnusualError("no end of a list")
            length *= 2

    def _more_or_end(self) -> None:
        try:
            self._more()
        except _UnusualError:
            if not self.ended:
                raise

    def _parsed(self, end: int) -> list[dict[str, Any]] | None:
        """The objects that lie before `end`; None where it does not end one of the list."""
        text = b"[" + self.data[self.place : end] + b"]"
        try:
            records = self.decode(text)
        except msgspec.MsgspecError:
            return None
        if set(map(type, records)) != {dict}:
            raise _UnusualError("a record that is not an object")
        keys = _count_keys(records, text.count(b"{"))
        if keys != text.count(b":") and keys != sum(map(text.count, _COLONS)):  # perhaps one comes twice
            records = json.loads(text, object_pairs_hook=unique_keys)
        return records


def _count_keys(records: list[dict[str, Any]], braces: int) -> int:
    """How many keys some records have, with those of all objects in them, whose text has so many braces."""
    inner = [value for record in records for value in record.values() if type(value) is dict]
    if len(records) + len(inner) == braces:  # these are all
        return sum(map(len, records)) + sum(map(len, inner))
    return sum(map(_keys, records))


def _keys(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum(_keys(one) for one in value.values() if type(one) in (dict, list))
    return sum(_keys(one) for one in value if type(one) in (dict, list))
