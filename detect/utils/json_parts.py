"""Reads a json file of any length part by part: an object whose long lists of records never lie in memory as a whole.

A fast parser (msgspec) reads the parts. It takes what is good json; what it refuses, and everything that only a strict
parser finds, such as a key that comes twice, is left to `detect.utils.json_files`, with its errors.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from multiprocessing.connection import wait as ready
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from detect.utils.array_pipes import receive, send
from detect.utils.atomic_io import open_file
from detect.utils.interrupt import follow_parent
from detect.utils.json_files import unique_keys

SIZE = 1 << 19  # bytes of a part: few calls, and what is parsed is still near the processor
SHORT = 1 << 10  # bytes in which a value is looked for first
LONGEST = 1 << 28  # bytes of one record
HALVED = 1 << 26  # bytes; of a longer list two processes read a half each
_SENT = 128  # parts that are sent as one: see `TableBuilder`; each sending waits until the other process reads
_TRIES = 64  # ends of a list that are tried in one part
_SPACE = re.compile(rb"[ \t\n\r]*")
_NEXT = re.compile(rb"\}([ \t\n\r]*,[ \t\n\r]*)(?=\{)")
_END = re.compile(rb"\}[ \t\n\r]*\]")
_KEY = re.compile(rb'"[^"\\]*"')
_COLONS = (b'":', b" :", b"\n:", b"\r:", b"\t:")  # every one between a key and its value is among them
Take = Callable[[Any], object]


class Quick(NamedTuple):
    """A reader of a list of objects: from the text of some of them to anything but None, which leaves them to others.

    `join` makes one of several such results.
    """

    read: Callable[[bytes], Any]
    join: Callable[[list[Any]], Any]


class _UnusualError(ValueError):
    """This file is for another reader."""


def read_in_parts(
    path: Path, lists: Mapping[str, Take], quick: Mapping[str, Quick] | None = None
) -> dict[str, Any] | None:
    """Read an object from a json file.

    Args:
        path: the file.
        lists: the keys of lists of objects; their functions are given some objects at a time, all in the end.
        quick: for some of these keys a reader of its own, whose results the key's function is given in place of
            objects, until it has left some to the general reader.

    Returns:
        The object, with None under those of the keys that it has; or None where the file is broken, is not such an
        object, or has anything in it that this reader does not take. The functions may have been given objects then.

    Raises:
        OSError: the file cannot be read.
    """
    with open_file(path) as file:
        try:
            return _Reader(file, lists, dict(quick or {}), path).read()
        except (_UnusualError, ValueError, RecursionError, msgspec.MsgspecError):
            return None


class _Reader:
    """The bytes of a file from `place` on, of which `data` holds the next."""

    def __init__(
        self, file: BufferedReader, lists: Mapping[str, Take], quick: dict[str, Quick], path: Path | None = None
    ) -> None:
        self.file, self.lists, self.quick, self.path = file, lists, quick, path
        self.go_to(file.tell())
        self.decode = msgspec.json.Decoder().decode
        self.strict = json.JSONDecoder(object_pairs_hook=unique_keys)

    def go_to(self, offset: int) -> None:
        """Go on at this byte of the file."""
        self.file.seek(offset)
        self.data, self.place, self.ended, self.base = b"", 0, False, offset

    @property
    def offset(self) -> int:
        """The byte of the file that is read next."""
        return self.base + self.place

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
        self.data, self.base, self.place = self.data[self.place :] + added, self.offset, 0

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
        last, half = self._next() == b"]", self._second_half(key)
        try:
            while not last:
                if half and self.offset == half.cut:
                    self.go_to(half.begin)
                    if (end := half.give(self.lists[key])) is not None:
                        self.go_to(end)
                        break
                records, last = self.part(key, half.cut if half else 0)
                self.lists[key](records)
                if half:
                    half.receive()
        finally:
            if half:
                half.close()
        self._skip(b"]")

    def _second_half(self, key: str) -> _SecondHalf | None:
        """Another process that reads the second half of the list that begins here; None for a short one."""
        length = os.fstat(self.file.fileno()).st_size - self.offset
        if key not in self.quick or self.path is None or length < HALVED or not _may_fork():
            return None
        with open_file(self.path) as file:
            file.seek(middle := self.offset + length // 2)
            cut = _NEXT.search(file.read(2 * SIZE))
        return _SecondHalf(self.path, key, self.quick[key], middle, cut) if cut else None

    def part(self, key: str, limit: int = 0) -> tuple[Any, bool]:
        """The next objects of a key's list, and whether they are its last.

        Where a part ends is guessed; the guess is right if what lies before it is a list of whole objects. `limit` is
        the offset of an end that is tried when it comes near.
        """
        self._next()
        length, left = SIZE, limit - self.offset
        while True:
            while len(self.data) - self.place < 2 * length and not self.ended:
                self._more_or_end()
            if 0 < left <= 2 * length and (records := self._parsed(key, self.place + left)) is not None:
                self.place += left
                return records, False
            cut = _NEXT.search(self.data, self.place + length)
            if cut and (records := self._parsed(key, cut.start() + 1)) is not None:
                self.place = cut.end()
                return records, False
            ends = _END.finditer(self.data, self.place, cut.start() if cut else len(self.data))
            for _, end in zip(range(_TRIES), ends, strict=False):
                if (records := self._parsed(key, end.start() + 1)) is not None:
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

    def _parsed(self, key: str, end: int) -> Any:
        """The objects that lie before `end`; None where it does not end one of the list."""
        text = b"[" + self.data[self.place : end] + b"]"
        if key in self.quick and (made := self.quick[key].read(text)) is not None:
            return made
        try:
            records = self.decode(text)
        except msgspec.MsgspecError:
            return None
        if set(map(type, records)) != {dict}:
            raise _UnusualError("a record that is not an object")
        keys = _count_keys(records, text.count(b"{"))
        if keys != text.count(b":") and keys != sum(map(text.count, _COLONS)):  # perhaps one comes twice
            records = json.loads(text, object_pairs_hook=unique_keys)
        self.quick.pop(key, None)
        return records


class _SecondHalf:
    """The second half of a list, which a forked process reads.

    Attributes:
        cut: the offset behind the last object of the first half, if it is one: whoever reads that half finds out.
        begin: the offset of the first object.
    """

    def __init__(self, path: Path, key: str, quick: Quick, middle: int, cut: re.Match[bytes]) -> None:
        self.cut, self.begin = middle + cut.start() + 1, middle + cut.end()
        self.parts, self.end, self.open = list[Any](), 0, True
        context: Any = multiprocessing.get_context("fork")
        here, there = os.pipe()
        self.pipe = os.fdopen(here, "rb")
        with os.fdopen(there, "wb") as other:
            self.process = context.Process(target=_read_half, args=(path, key, quick, self.begin, other), daemon=True)
            self.process.start()

    def receive(self, wait: bool = False) -> None:
        """Take the parts that are there; with `wait` all of them."""
        while self.open and (wait or ready([self.pipe.fileno()], 0)):
            try:
                part, self.end = receive(self.pipe)
                self.parts.append(part)
            except EOFError:
                self.open = False

    def give(self, take: Take) -> int | None:
        """Give a function all parts; return the offset of the end of the list, None where it could not be read so."""
        self.receive(wait=True)
        if not self.end:
            return None
        self.parts.reverse()
        while self.parts:
            take(self.parts.pop())
        return self.end

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _may_fork() -> bool:
    """Whether another process can help: not where forking is unsafe or not allowed, or there is one core."""
    if sys.platform == "linux":
        return not multiprocessing.current_process().daemon and len(os.sched_getaffinity(0)) > 1
    return False


def _read_half(path: Path, key: str, quick: Quick, begin: int, pipe: BufferedWriter) -> None:
    """Read a list from this offset on, in a process of its own, and send its parts; at the end the offset there."""
    follow_parent()
    parts, last = list[Any](), False
    with suppress(OSError, ValueError, RecursionError, msgspec.MsgspecError), open_file(path) as file:
        file.seek(begin)
        reader = _Reader(file, {}, {key: quick})
        while not last:
            records, last = reader.part(key)
            if not reader.quick:
                return
            parts.append(records)
            if len(parts) == _SENT or last:
                send(pipe, (quick.join(parts), reader.offset if last else 0))
                parts = []


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
