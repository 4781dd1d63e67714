"""The cache of contents: one file for each version of an object, up to a limit; the least recently used ones leave.

The limit is GRIDHEAD_REMOTE_CACHE_GB. All processes of a user share the cache: files appear whole and are never
changed, so that no lock is needed. A process looks for what has to leave when it has added a hundredth of the limit.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from detect.errors import UserError
from detect.utils.atomic_io import cache_folder

LIMIT = "GRIDHEAD_REMOTE_CACHE_GB"
_DEFAULT_GB = 20.0
_SHARE = 0.01  # of the limit: what is added before a process looks at the whole
_LEAVE = 0.9  # of the limit: what stays when files have to leave
_MINUTE, _DAY = 60, 86400  # seconds
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class _Added:
    """Bytes added since this process looked at the whole cache; it looks at the first."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child must: a thread of the parent may hold the lock."""
        self.lock, self.bytes, self.looked = threading.Lock(), 0, False


_added = _Added()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_added.reset)


def limit() -> int:
    """The most bytes that the cache may hold. Raises UserError for a setting that is no positive number."""
    text = os.environ.get(LIMIT, "") or str(_DEFAULT_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        raise UserError(f"{LIMIT} is {text!r}; give the size of the cache in gigabytes, such as 50")
    return int(gigabytes * 1e9)


def blob_path(url: str, version: int, part: str = "") -> str:
    """Where the cache keeps the content of one version of an object, or a `part` of it."""
    suffix = os.path.splitext(url.partition("?")[0])[1]
    name = hashlib.sha256(f"{url}\n{version}\n{part}".encode("utf-8", "surrogatepass")).hexdigest()[:40]
    try:
        folder = str(cache_folder())
    except OSError as error:
        raise UserError(f"there is no folder for the cache ({error}): let XDG_CACHE_HOME name one") from None
    return os.path.join(folder, "blobs", name[:2], name[2:] + (suffix if _SUFFIX.fullmatch(suffix) else ""))


def is_kept(blob: str) -> bool:
    """Whether the cache holds a file, which is then in use again."""
    try:
        status = os.stat(blob)
        if time.time() - status.st_mtime > _MINUTE:  # its time is that of its last use, roughly
            os.utime(blob)
    except FileNotFoundError:
        return False
    except OSError:  # the cache is read-only
        return True
    return True


def require_room(name: str, size: int) -> None:
    """Raise a UserError for a file that is larger than the cache may be."""
    if size > limit():
        raise UserError(f"{name} has {size:,} bytes, more than the cache may hold ({limit():,}); raise {LIMIT}")


def make_room(size: int) -> None:
    """Count `size` bytes as added, and now and then remove what was not used for longest."""
    with _added.lock:
        _added.bytes += size
        most = limit()
        if _added.looked and _added.bytes < _SHARE * most:
            return
        _added.looked, _added.bytes = True, 0
    _shrink(cache_folder() / "blobs", most)


def _shrink(folder: Path, most: int) -> None:
    """Remove the least recently used files of a cache that holds more than `most` bytes, and what kills left over."""
    files, now = list[tuple[float, int, str]](), time.time()
    with suppress(OSError):
        for part in os.scandir(folder):
            for entry in os.scandir(part):
                with suppress(OSError):
                    status = entry.stat()
                    if entry.name.startswith("."):
                        if now - status.st_mtime > _DAY:
                            os.unlink(entry)
                        continue
                    files.append((status.st_mtime, status.st_size, entry.path))
    held = sum(size for _, size, _ in files)
    if held <= most:
        return
    for _, size, path in sorted(files):
        if held <= _LEAVE * most:
            break
        with suppress(OSError):  # another process removed it, or reads it (Windows)
            os.unlink(path)
            held -= size
