"""Files of uploads and their results: in one folder, within one total size, and removed when a request ends."""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from detect.serve.responses import RequestRejected

KEPT, KEPT_SECONDS = 4, 3600.0  # number of videos that can be fetched, and for how long


class Upload:
    """The upload of one request: `file`, in a folder of its own called `name`."""

    def __init__(self, uploads: Uploads) -> None:
        self.uploads, self.name, self.size = uploads, uuid4().hex, 0
        self.folder = uploads.folder / self.name
        self.file = self.folder / "upload"

    def write(self, data: bytes) -> None:
        """Append to the file. Raises RequestRejected where the total size, or the disk, is full."""
        self.uploads.take(len(data))
        self.size += len(data)
        try:
            self.folder.mkdir(exist_ok=True)
            with self.file.open("ab", buffering=0) as file:
                file.write(data)
        except OSError as error:
            raise RequestRejected(507, f"the server has no room for the upload ({error.strerror})") from None


class Uploads:
    """All files of the server, at most `most` bytes together. Results make room for new uploads."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most, self.used = folder, most, 0
        self.kept: OrderedDict[str, int] = OrderedDict()

    def take(self, size: int) -> None:
        """Count `size` more bytes. Raises RequestRejected where they are too many."""
        while self.used + size > self.most and self.kept:
            self.drop(next(iter(self.kept)))
        if self.used + size > self.most:
            raise RequestRejected(503, "the server is full: try again later")
        self.used += size

    @contextmanager
    def open(self) -> Iterator[Upload]:
        """An upload, which is removed and no longer counted after the context."""
        upload = Upload(self)
        try:
            yield upload
        finally:
            self.used -= upload.size
            shutil.rmtree(upload.folder, ignore_errors=True)

    def keep(self, upload: Upload) -> None:
        """Keep the results of an upload, its folder `out`, so that they can be fetched for a while."""
        result = upload.folder / "out"
        size = sum(file.stat().st_size for file in result.iterdir())
        self.take(size)
        result.rename(self._folder_of(upload.name))
        self.kept[upload.name] = size
        while len(self.kept) > KEPT:
            self.drop(next(iter(self.kept)))
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self.drop, upload.name)

    def drop(self, name: str) -> None:
        """Remove the results of that name."""
        self.used -= self.kept.pop(name, 0)
        shutil.rmtree(self._folder_of(name), ignore_errors=True)

    def result(self, name: str, file: str) -> Path | None:
        """A file of the results of that name; None where they are gone."""
        return self._folder_of(name) / file if name in self.kept else None

    def _folder_of(self, name: str) -> Path:
        return self.folder / f"{name}-out"
