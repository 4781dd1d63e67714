"""Large COCO files as they were read last time, in the user's cache folder: a second start reads no json.

Kept is what the json alone says, and only where all of it is in order. What depends on the disk, such as where images
lie, is looked at every time. A file is used if it is whole, and if the json has the path, size, modification time and
SHA-256 that it had.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from detect.data.outlines import Outlines
from detect.data.sources.coco_table import AnnotationTable
from detect.errors import UserError
from detect.utils.array_files import read_arrays, sha256, write_arrays
from detect.utils.atomic_io import cache_folder
from detect.utils.locks import locked_in_turn
from detect.utils.names import warn_once

LEAST = 1 << 24  # bytes; a smaller json is read in a fraction of a second
MOST = 10 << 30  # bytes of all files; the ones that were used last stay
_OUTLINES = ("points", "ring_starts", "holes", "object_starts", "codes", "code_starts", "rle_sizes")


class RecordCache:
    """What is kept of one COCO file.

    Args:
        path: the json.

    Attributes:
        kept: its `images`, `annotations` (as a table) and `categories`; None where they are not kept.
    """

    def __init__(self, path: Path) -> None:
        self.kept: dict[str, Any] | None = None
        self.path, self.identity = path, _identity(path)
        name = hashlib.sha256(os.fsencode(os.path.abspath(path)) + _reader().encode()).hexdigest()[:32]
        self.file = cache_folder() / "annotations" / f"{name}.arrays"

    def look(self) -> None:
        """Look for the file's records."""
        self.kept = self._read()

    def _read(self) -> dict[str, Any] | None:
        try:
            with ThreadPoolExecutor(1) as pool:
                digest = pool.submit(sha256, self.path)
                found = read_arrays(self.file)
                if found is None or [*self.identity, digest.result().hex()] != found[0]["identity"]:
                    return None
            said, arrays = found
            images = msgspec.json.decode(arrays.pop("images").tobytes())
            return {"images": images, "annotations": _table(arrays), "categories": said["categories"]}
        except (OSError, ValueError, KeyError, TypeError, msgspec.MsgspecError):  # there is none, or it is damaged
            return None

    def write(self, images: bytes, categories: list[dict], table: AnnotationTable) -> None:
        """Keep records: those of images as json, and annotations, ordered by image, as a table without anything odd."""
        digest = sha256(self.path).hex()
        if self.identity != _identity(self.path):
            return  # somebody has changed it meanwhile
        arrays = _arrays(table) | {"images": np.frombuffer(images, np.uint8)}
        said = {"identity": [*self.identity, digest], "categories": categories}
        write_arrays(self.file, said, arrays, MOST)


@contextmanager
def record_cache(path: Path) -> Iterator[RecordCache | None]:
    """Give the cache of a COCO file: with what it keeps, else while no other process reads that json to fill it.

    None for a small file, and where there can be no cache.
    """
    with ExitStack() as stack:
        found = None
        with suppress(OSError, ValueError, UserError):
            if os.path.getsize(path) >= LEAST:
                found = RecordCache(path)
                found.look()
                if found.kept is None:
                    stack.enter_context(locked_in_turn(found.file))
                    found.look()
        yield found


def keep(found: RecordCache, images: bytes, categories: list[dict], table: AnnotationTable) -> None:
    """Write records into the cache, or say why that is not possible."""
    try:
        found.write(images, categories, table)
    except (OSError, UserError) as error:
        warn_once(f"the labels in {found.path} are read anew next time, for the cache cannot be written: {error}")


def _identity(path: Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


@cache
def _reader() -> str:
    """A digest of the code that reads COCO files, so that another version reads them anew."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _arrays(table: AnnotationTable) -> dict[str, np.ndarray]:
    """The arrays of a table without anything odd, whose outlines are one part."""
    arrays = {f"values.{key}": values for key, values in table.values.items()}
    arrays |= {name: getattr(table, name) for name in ("points", "point_counts", "difficult")}
    for outlines in table.outlines:
        arrays |= {f"outlines.{name}": getattr(outlines, name) for name in _OUTLINES}
    return arrays


def _table(arrays: dict[str, np.ndarray]) -> AnnotationTable:
    values = {name.removeprefix("values."): array for name, array in arrays.items() if name.startswith("values.")}
    none = np.zeros(len(arrays["difficult"]), bool)
    outlines = list[Outlines]()
    if "outlines.points" in arrays:
        parts: dict[str, Any] = {name: arrays[f"outlines.{name}"] for name in _OUTLINES}
        outlines = [Outlines(**parts)]
    columns = {name: arrays[name] for name in ("points", "point_counts", "difficult")}
    odd = dict.fromkeys(values, none)
    return AnnotationTable(values, odd, none, **columns, outlines=outlines, bad_outlines={}, corners={}, records={})
