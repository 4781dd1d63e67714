"""Files within shards, by paths that say where they are: no index has to be kept, and nothing is ever unpacked.

    train-000000.tar/1536+20480/000139.jpg     20,480 bytes from byte 1536 on (WebDataset)
    train-00000.parquet/3-17/000139.jpg        row 17 of row group 3, in the column of images

The name at the end is for people and for suffixes; it is never a path on this machine.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import Any, NamedTuple

from detect.errors import UserError
from detect.utils.arrow import require_arrow
from detect.utils.atomic_io import TREES

MEMBER = re.compile(r"^(.*\.(tar|parquet))[/\\](\d{1,18})[+-](\d{1,18})[/\\]([^/\\]+)$", re.IGNORECASE | re.DOTALL)
LARGEST = 2**30  # bytes of a file in a remote shard, and of the images of a row group
_KEPT = 4  # row groups that a process keeps decoded


SUFFIXES = (".tar", ".parquet")


def is_shard(path: Path) -> bool:
    """Whether a file holds others, by its suffix; hidden files do not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


class Member(NamedTuple):
    """A file in a shard: start and size in bytes of a tar, row group and row of a Parquet file."""

    shard: str
    is_tar: bool
    start: int
    size: int
    name: str

    @property
    def path(self) -> str:
        return f"{self.shard}/{self.start}{'+' if self.is_tar else '-'}{self.size}/{self.name}"


def member_of(path: str) -> Member | None:
    """The file in a shard that a path names; None for other paths."""
    found = MEMBER.match(path)
    if found is None or not (os.path.isfile(found[1]) or TREES in path):
        return None
    return Member(found[1], found[2].lower() == "tar", int(found[3]), int(found[4]), found[5])


class _Slice(RawIOBase):
    """A file within a local tar, read where it lies: a video may be longer than memory."""

    def __init__(self, member: Member) -> None:
        self.file, self.name = open(member.shard, "rb"), member.path  # noqa: SIM115  (closed with this)
        self.start, self.size, self.place = member.start, member.size, 0
        if os.fstat(self.file.fileno()).st_size < self.start + self.size:
            self.close()
            raise OSError(22, "the shard ends before this file does", member.path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        self.place = max(base + offset, 0)
        return self.place

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._next(self.size)

    def _next(self, most: int) -> bytes:
        self.file.seek(self.start + self.place)
        data = self.file.read(max(min(most, self.size - self.place), 0))
        self.place += len(data)
        return data

    def close(self) -> None:
        self.file.close()
        super().close()


def open_member(
    member: Member, part_of: Callable[[str, int, int], bytes | None], local_path: Callable[[str], str]
) -> BufferedReader:
    """Open a file in a shard.

    Args:
        member: the file.
        part_of: reads a part of a remote file (path, start, size); None where it is a local one.
        local_path: the local file with the content of a path.

    Raises:
        OSError: the shard cannot be read, or ends before the file does.
        UserError: it is too large, or the Parquet file has no such row or no images.
    """
    if not member.is_tar:
        return BufferedReader(BytesIO(_row_groups.image(local_path(member.shard), member)))
    if TREES in member.shard and member.size > LARGEST:
        raise UserError(f"{member.path}: a file of more than {LARGEST:,} bytes is not read from a remote shard")
    data = part_of(member.shard, member.start, member.size)
    if data is None:
        return BufferedReader(_Slice(member))
    if len(data) != member.size:
        raise OSError(22, "the shard ends before this file does", member.path)
    return BufferedReader(BytesIO(data))


def image_columns(schema: Any, name: str) -> list[tuple[str, ...]]:
    """The paths of the columns of encoded images in the schema of a Parquet file, such as ("image", "bytes").

    The first is read.

    Raises:
        UserError: there is none.
    """
    import pyarrow as pa

    binary, found = (pa.types.is_binary, pa.types.is_large_binary), list[tuple[str, ...]]()
    for field in schema:
        if pa.types.is_struct(field.type):
            inner = {part.name: part.type for part in field.type}
            if "bytes" in inner and any(is_one(inner["bytes"]) for is_one in binary):
                found.append((field.name, "bytes"))
        elif any(is_one(field.type) for is_one in binary):
            found.append((field.name,))
    if not found:
        raise UserError(f"{name}: no column holds images (binary, or a struct with bytes): {', '.join(schema.names)}")
    return found


def open_parquet(path: str, name: str) -> Any:
    """Open a local Parquet file as `pyarrow.parquet.ParquetFile`; `name` is for messages.

    Raises:
        UserError: pyarrow is missing, or the file is damaged.
    """
    pa = require_arrow(name)
    try:
        return pa.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{name}: not a readable Parquet file ({' '.join(str(error).split())[:200]})") from None


class _RowGroups:
    """The images of the row groups that were read last."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child must: a thread of the parent may hold the lock."""
        self.lock = threading.Lock()
        self.kept: OrderedDict[tuple[str, int], list[bytes | None]] = OrderedDict()

    def image(self, path: str, member: Member) -> bytes:
        """The image in a row of a row group."""
        group, row = member.start, member.size
        with self.lock:
            images = self.kept.pop((path, group), None)
            if images is None:
                images = self._read(path, member.shard, group)
            self.kept[path, group] = images
            while len(self.kept) > _KEPT:
                self.kept.popitem(last=False)
        image = images[row] if row < len(images) else None
        if image is None:
            raise OSError(22, "the Parquet file has no image in this row", member.path)
        return image

    @staticmethod
    def _read(path: str, name: str, group: int) -> list[bytes | None]:
        import pyarrow as pa

        with open_parquet(path, name) as file:
            if group >= file.num_row_groups:
                raise OSError(22, "the Parquet file has no such row group", name)
            column = image_columns(file.schema_arrow, name)[0]
            if file.metadata.row_group(group).total_byte_size > LARGEST:
                raise UserError(f"{name}: row group {group} has more than {LARGEST:,} bytes: write it in smaller ones")
            try:
                found = file.read_row_group(group, columns=[".".join(column)])[column[0]].combine_chunks()
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UserError(f"{name}: row group {group} is damaged ({str(error)[:200]})") from None
            return (found.field(column[1]) if len(column) > 1 else found).to_pylist()


_row_groups = _RowGroups()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_row_groups.reset)
