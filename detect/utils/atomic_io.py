"""Reads regular files only, replaces files atomically, and knows the folders for temporary and cached files."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from detect.errors import FULL, UserError

TREES = f"{os.sep}gridhead-trees{os.sep}"  # in the path of a file whose content is elsewhere: see `detect.storage`
STORED = re.compile(r"[/\\]gridhead-trees[/\\]|\.(tar|parquet)[/\\]", re.IGNORECASE)  # or within a shard
_ROOM = 2**22  # bytes; a disk with less free space counts as full
_ELSEWHERE = "free some space, or let TMPDIR name a folder that can be written and has some"
_TORCH_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file, or a link to one, for reading. Every reader of the user's files opens them here.

    Anything else could block for ever (a named pipe), have no end (/dev/zero) or react to being opened (a device).
    Files of object stores and within shards are opened by `detect.storage`.

    Raises:
        OSError: the file is missing, cannot be read, or is not a regular file.
        ValueError: the name holds a NUL.
        UserError: a remote file cannot be fetched.
    """
    if STORED.search(name := os.fspath(path)):
        from detect.storage.fetch import open_stored

        if (stored := open_stored(name)) is not None:
            return stored
    if not os.path.isfile(path):
        raise irregular(path)
    return open(path, "rb")


def irregular(path: str | os.PathLike[str]) -> OSError:
    """The error for a path that is not a regular file: it is missing, or is a folder, pipe, socket or device."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        return error
    what = _KINDS.get(kind, "something else")
    return OSError(errno.EINVAL, f"it is {what}, and only regular files are read", os.fspath(path))


def require_file(path: str | os.PathLike[str]) -> None:
    """Raise a UserError if `open_file` cannot open the path; for libraries that open files themselves."""
    try:
        open_file(path).close()
    except (OSError, ValueError) as error:
        raise UserError(f"{os.fspath(path)}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_bytes(path: str | os.PathLike[str], most: int = 0) -> bytes:
    """The content of a regular file of at most `most` bytes (0: any size).

    Raises:
        OSError: as `open_file`, or the file is larger than `most`.
        ValueError: as `open_file`.
    """
    with open_file(path) as file:
        data = file.read(most + 1 if most else -1)
    if most and len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes, and cannot be right", os.fspath(path))
    return data


def replace_file(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Write a file atomically: fill a temporary file beside it, which then replaces it. Every file is written this way.

    A link at `path` is replaced, and its target stays; so do other hard links of a file. Anything but a file, such as a
    device, is never replaced.

    Args:
        path: the file; its folder is created.
        write: fills the temporary file, whose path it is given.
        durable: flush the content to the disk first, so that it survives a power failure; takes milliseconds.

    Raises:
        UserError: the disk is full, or the folder cannot be written; the old file stays.
    """
    from detect.utils.locks import Draft  # late, as is tempfile: nothing that `--help` needs writes a file

    draft = None
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be written: it exists and is not a file; choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Draft(path)
        write(draft.part)
        draft.finish(durable)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be written: {reason}; free some space or choose another place") from error
    finally:
        if draft:
            draft.discard()


def replace_text(path: Path, text: str, durable: bool = True) -> None:
    """`replace_file` for text in UTF-8; a lone surrogate, which UTF-8 cannot encode, is written as its code."""
    data = text.encode("utf-8", "backslashreplace")  # bytes, so that line ends are the same on every system
    replace_file(path, lambda part: part.write_bytes(data), durable)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder (in TMPDIR), removed at the end.

    Raises:
        UserError: it cannot be created, or its disk became full, whatever error a library made of that.
    """
    import tempfile

    try:
        folder = tempfile.TemporaryDirectory(prefix="gridhead-", ignore_cleanup_errors=True)
    except OSError as error:
        where = os.path.dirname(error.filename) if error.filename else "the temporary folder"
        raise UserError(f"{where} cannot be written: {error.strerror or error}; {_ELSEWHERE}") from error
    with folder as name:
        try:
            yield Path(name).resolve()
        except UserError:
            raise
        except Exception as error:
            if getattr(error, "errno", None) in FULL or _is_full(Path(name)):
                raise UserError(f"{os.path.dirname(name)} is full; {_ELSEWHERE}") from error
            raise


def _is_full(folder: Path) -> bool:
    """Whether files in the folder cannot grow: the disk is full, or a file has the largest allowed size (ulimit -f)."""
    if shutil.disk_usage(folder).free < _ROOM:
        return True
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        sizes = (path.stat().st_size for path in folder.rglob("*"))
        return most != resource.RLIM_INFINITY and any(size >= most for size in sizes)
    return False


@contextmanager
def without_compiler_cache() -> Iterator[None]:
    """Remove the empty folder that torch creates in TMPDIR for compiled code when an optimizer or exporter is used.

    A folder that is not empty, or that the environment names, stays.
    """
    named = _TORCH_CACHE in os.environ
    try:
        yield
    finally:
        if not named and _TORCH_CACHE in os.environ:  # torch stores its choice there
            with suppress(OSError):
                os.rmdir(os.environ[_TORCH_CACHE])


def cache_folder() -> Path:
    """The folder for cached files: `gridhead` in XDG_CACHE_HOME or ~/.cache; elsewhere as macOS and Windows have it.

    Raises:
        OSError: the user has no home folder.
    """
    from platformdirs import user_cache_path  # late: most commands need no cache

    try:
        path = user_cache_path("gridhead", appauthor=False)
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    if not path.is_absolute():  # no home folder, of which older versions of platformdirs say nothing
        raise FileNotFoundError(f"{path} is not absolute")
    return path
