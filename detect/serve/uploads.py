"""Files of what is sent and of what is made of it: in one folder, within one total, and gone when a request ends."""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from detect.serve.responses import Refused

KEPT, KEPT_SECONDS = 4, 3600.0  # how many videos are kept to be fetched, and for how long


class Upload:
    """The file of one request, `file` in a folder of its own that is called `name`."""

    def __init__(self, uploads: Uploads) -> None:
        self.uploads, self.name, self.size = uploads, uuid4().hex, 0
        self.folder = uploads.folder / self.name
        self.file = self.folder / "upload"

    def write(self, data: bytes) -> None:
        """Append. Raises Refused where the total, or the disk, is full."""
        self.uploads.take(len(data))
        self.size += len(data)
        try:
            self.folder.mkdir(exist_ok=True)
            with self.file.open("ab", buffering=0) as file:
                file.write(data)
        except OSError as error:
            raise Refused(507, f"the server has no room for it ({error.strerror})") from None


class Uploads:
    """All files of the server, `most` bytes together; those kept to be fetched make room for what is sent."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most, self.used = folder, most, 0
        self.kept: OrderedDict[str, int] = OrderedDict()

    def take(self, size: int) -> None:
        """Count `size` bytes more. Raises Refused where they are too many."""
        while self.used + size > self.most and self.kept:
            self.drop(next(iter(self.kept)))
        if self.used + size > self.most:
            raise Refused(503, "the server holds as much as it may: try again later")
        self.used += size

    @contextmanager
    def open(self) -> Iterator[Upload]:
        """A file for what is sent; it, and its count, end with the context."""
        upload = Upload(self)
        try:
            yield upload
        finally:
            self.used -= upload.size
            shutil.rmtree(upload.folder, ignore_errors=True)

    def keep(self, upload: Upload) -> None:
        """Let what was made of an upload, its folder `out`, be fetched for a while."""
        made = upload.folder / "out"
        size = sum(file.stat().st_size for file in made.iterdir())
        self.take(size)
        made.rename(self._folder_of(upload.name))
        self.kept[upload.name] = size
        while len(self.kept) > KEPT:
            self.drop(next(iter(self.kept)))
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self.drop, upload.name)

    def drop(self, name: str) -> None:
        """Forget what was kept under that name."""
        self.used -= self.kept.pop(name, 0)
        shutil.rmtree(self._folder_of(name), ignore_errors=True)

    def made(self, name: str, file: str) -> Path | None:
        """A file that was kept, or None."""
        return self._folder_of(name) / file if name in self.kept else None

    def _folder_of(self, name: str) -> Path:
        return self.folder / f"{name}-out"
