"""Which images of a large set were found in order before, so that a second start opens only what has changed.

An image is known by its path, size and modification time. Only images of which there is nothing to tell are kept: the
others are looked at, and told, every time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detect.data.images import Header
from detect.errors import UserError
from detect.utils.array_files import read_arrays, write_arrays
from detect.utils.atomic_io import TREES, cache_folder

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

LEAST = 1000  # images of a set; fewer are checked in seconds
MOST = 1 << 28  # bytes of all files; an image takes 40
KEEP_EVERY = 60.0  # seconds
VERSION = 1  # raise it when the check of images changes


class Examined(NamedTuple):
    """What a look at an image file found: its header (None: unreadable), what is wrong with it, what is odd."""

    header: Header | None
    problem: str = ""
    oddity: str = ""


class CheckedImages:
    """The images of a set that were in order before. Close it to keep what was noted since.

    Args:
        annotations: the set; those of fewer than LEAST images, and of images behind URLs, have no such memory.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.found: dict[bytes, Header] = {}  # by key
        self.keys: dict[int, bytes] = {}  # of the images that are being looked at, or were noted
        self.noted: dict[int, Header] = {}
        self.file: Path | None = None
        self.base, self.kept_at = os.path.join(os.path.abspath(annotations.root), ""), time.monotonic()
        if len(annotations) < LEAST or TREES in str(annotations.root):
            return
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            name = hashlib.sha256(f"{VERSION} {os.path.abspath(annotations.root)}".encode("utf-8", "surrogateescape"))
            self.file = cache_folder() / "images" / f"{name.hexdigest()[:32]}.arrays"
            said, arrays = read_arrays(self.file) or ({}, {})
            keys = [row.tobytes() for row in arrays.get("keys", np.zeros((0, 16), np.uint8))]
            kinds = [tuple(one) for one in said.get("kinds", [])]
            rows = arrays["headers"].tolist() if keys else []
            self.found = {key: _header(*kinds[row[0]], *row[1:]) for key, row in zip(keys, rows, strict=True)}

    def know(self, indices: Sequence[int]) -> bool:
        """Look at the size and time of some files; whether none of them has to be opened."""
        if self.file is None:
            return False
        for index in indices:
            if key := _key(self.base + self.annotations.file_name(index)):
                self.keys[index] = key
        return all(self.keys.get(index) in self.found for index in indices)

    def header(self, index: int) -> Header | None:
        """Return the header of an image that is known to be in order."""
        return self.found.get(self.keys.get(index, b""))

    def note(self, index: int, examined: Examined, decoded: bool) -> Examined:
        """Note what was found of an image, and return it."""
        if decoded and examined.header and not examined.problem and not examined.oddity and index in self.keys:
            self.noted[index] = examined.header
        return examined

    def keep_sometimes(self) -> None:
        """Keep what was noted so far, where it is a while since that was done: the check may be killed."""
        if time.monotonic() - self.kept_at > KEEP_EVERY:
            self.close()
            self.kept_at = time.monotonic()

    def close(self) -> None:
        """Keep what is in order, for a second start: all that was before, and what was noted."""
        if self.file is None or not self.noted:
            return
        current = {self.keys[index]: header for index, header in [*self.noted.items()]} | self.found
        current = dict(islice(current.items(), MOST // 40))
        kinds = sorted({(header.format, header.mode) for header in current.values()})
        place = {kind: number for number, kind in enumerate(kinds)}
        rows = [[place[h.format, h.mode], *h.size, *h.shown, h.orientation] for h in current.values()]
        keys = np.frombuffer(b"".join(current), np.uint8).reshape(-1, 16)
        with suppress(OSError, UserError):  # it is a memory, not a result
            write_arrays(self.file, {"kinds": kinds}, {"keys": keys, "headers": np.array(rows, np.int32)}, MOST)


def _key(path: str) -> bytes:
    """What an image at an absolute path is known by; b"" for a file that is not there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return b""
    said = f"{path}\0{status.st_size} {status.st_mtime_ns}"
    return hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).digest()


@cache
def _header(kind: str, mode: str, height: int, width: int, shown_height: int, shown_width: int, turn: int) -> Header:
    """One header for all images that have it: most images of a set have one of a few sizes."""
    return Header(kind, mode, (height, width), (shown_height, shown_width), turn)
