"""Reading regular files only; replacing files as a whole, never by half; the folder of the cache."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from detect.errors import FULL, UserError
from detect.utils.locks import Draft

_ROOM = 2**22  # bytes; where less is left, something larger did not fit
_ELSEWHERE = "free some space, or let TMPDIR name a folder that can be written and has some"
_TORCH_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file, or a link to one, for reading: every reader of the user's files opens them here.

    Anything else could block for ever (a named pipe), have no end (/dev/zero) or react to being opened (a device).

    Raises:
        OSError: the file is missing, cannot be read, or is no regular file.
        ValueError: the name holds a NUL.
    """
    if not os.path.isfile(path):
        raise irregular(path)
    return open(path, "rb")


def irregular(path: str | os.PathLike[str]) -> OSError:
    """Why a path that is no regular file cannot be read: there is nothing, or a folder, a pipe, a socket, a device."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        return error
    what = _KINDS.get(kind, "something else")
    return OSError(errno.EINVAL, f"it is {what}, and only regular files are read", os.fspath(path))


def require_file(path: str | os.PathLike[str]) -> None:
    """Raises UserError for what cannot be opened by `open_file`: for readers that open files themselves."""
    try:
        open_file(path).close()
    except (OSError, ValueError) as error:
        raise UserError(f"{os.fspath(path)}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_bytes(path: str | os.PathLike[str], most: int = 0) -> bytes:
    """The content of a regular file of `most` bytes at most (0: any size).

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
    """Let `write` fill a temporary file beside `path`, and put it in the place of `path`: every file is written so.

    A link at `path` is replaced, and what it leads to stays as it is; so do other names (hard links) of a file there.
    What is there and no file, such as a device, is never replaced.

    Args:
        durable: bring the content to the disk first, so that it is there after a power failure; takes milliseconds.

    Raises:
        UserError: the disk is full, or the folder cannot be written; the file that was there stays.
    """
    draft = None
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be written: it is there, and no file; choose another place")
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
    """`replace_file` for a text in UTF-8; half a surrogate pair, which UTF-8 has no form for, as its code."""
    data = text.encode("utf-8", "backslashreplace")  # not as text: line ends are the same on every system
    replace_file(path, lambda part: part.write_bytes(data), durable)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for what is needed for a while, where TMPDIR says, removed at the end.

    Raises:
        UserError: it cannot be made, or became full, however the library that wrote there puts that.
    """
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
    """Whether files cannot grow there, for want of space or beyond what this process may write (ulimit -f)."""
    if shutil.disk_usage(folder).free < _ROOM:
        return True
    if sys.platform == "win32":
        return False
    import resource

    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    sizes = (path.stat().st_size for path in folder.rglob("*"))
    return most != resource.RLIM_INFINITY and any(size >= most for size in sizes)


@contextmanager
def without_compiler_cache() -> Iterator[None]:
    """Leave no empty folder: torch makes one in TMPDIR for compiled code, as soon as an optimizer or exporter is used.

    One with something in it, or that the environment names, stays.
    """
    named = _TORCH_CACHE in os.environ
    try:
        yield
    finally:
        if not named and _TORCH_CACHE in os.environ:  # torch puts its choice there
            with suppress(OSError):
                os.rmdir(os.environ[_TORCH_CACHE])


def cache_folder() -> Path:
    """The folder for what can be made again: `gridhead` in XDG_CACHE_HOME, or in ~/.cache.

    Raises:
        OSError: the user has no home folder.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "gridhead"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
