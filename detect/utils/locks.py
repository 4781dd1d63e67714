"""Locks that let one run at a time write an output: they tell who holds them, and end with their process."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from detect.errors import UserError
from detect.utils.names import warn_once
from detect.utils.overwrite import require_own

if sys.platform == "win32":
    import msvcrt

    _Busy: type[OSError] = PermissionError  # raised for a lock that another process holds
else:
    import fcntl

    _Busy = BlockingIOError

C = TypeVar("C")
R = TypeVar("R")
LOCK = ".gridhead.lock"  # in a folder that a run writes into
_HELD: set[int] = set()  # descriptors of locked files
_TEMPORARY = re.compile(r"\.gridhead-[0-9a-f]{12}\.part")
_OPEN_FILES_STAY = sys.platform == "win32"  # where an open file can be neither removed nor replaced
_BEYOND = 2**30  # the byte that Windows locks; other processes could not read a byte within the content
_PAUSE = 0.1  # seconds between two looks at a lock that is waited for
_FLAGS = getattr(os, "O_BINARY", 0)  # otherwise Windows changes line ends
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_log = logging.getLogger("detect")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep every other run out of a folder, which is created if it is missing. Leftovers of killed runs are removed.

    The lock is the system's, on the file LOCK in the folder: it ends with this process, by `kill -9` too. The file is
    removed at the end, and so is a folder that was created for it and is still empty.

    Raises:
        UserError: another run holds the lock, or the folder cannot be written.
    """
    with _locked(folder / LOCK, folder, "--out"):
        yield


def in_use_since(folder: Path) -> float | None:
    """When the run began that holds the lock of a folder, in seconds since 1970; None where there is none.

    Only the file is read: taking the lock to try it could turn away a run that starts at this moment. A killed run
    leaves the file behind; on this machine its process is looked for.
    """
    lock = folder / LOCK
    try:
        since, process = lock.stat().st_mtime, str(json.loads(lock.read_text(encoding="utf-8"))["process"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    number, _, node = process.removeprefix("process ").partition(" on ")
    here = sys.platform != "win32" and node == platform.node() and number.isdecimal()
    return None if here and has_ended(int(number)) else since


def has_ended(process: int) -> bool:
    """Whether a process of this machine has ended, by its number."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except (OSError, IndexError):  # another user's, or a system without /proc
        return False
    return state in ("Z", "X")  # killed, and its parent has not asked for its status


@contextmanager
def locked_files(*files: str | Path, kind: str = "results") -> Iterator[None]:
    """`locked_folder` for single files; "" is skipped. The lock of each is a file beside it.

    Raises:
        UserError: as `locked_folder`, or a file that is not of this `kind` would be lost: see `require_own`.
    """
    with ExitStack() as stack:
        for path in [Path(file) for file in files if file]:
            require_own(path, kind)
            name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
            stack.enter_context(_locked(path.with_name(f".gridhead-{name}.lock"), path, "file"))
        yield


@contextmanager
def locked_in_turn(file: Path) -> Iterator[None]:
    """Hold the lock of a file in the cache; if another process holds it, wait until that process is done.

    Raises:
        UserError: its folder cannot be written.
    """
    name = hashlib.sha256(os.fsencode(file.name)).hexdigest()[:12]
    with _locked(file.with_name(f".gridhead-{name}.lock"), file, "cache folder with XDG_CACHE_HOME", wait=True):
        yield


def under(lock: Callable[[Any], AbstractContextManager[None]]) -> Callable[[Callable[[C], R]], Callable[[C], R]]:
    """A decorator that runs a command, a function of its configuration, under the lock `lock(configuration)`."""

    def decorated(command: Callable[[C], R]) -> Callable[[C], R]:
        @functools.wraps(command)
        def run(config: C) -> R:
            with lock(config):
                return command(config)

        return run

    return decorated


@contextmanager
def _locked(lock: Path, target: Path, option: str, wait: bool = False) -> Iterator[None]:
    missing = [folder for folder in (lock.parent, *lock.parent.parents) if not folder.exists()]
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(lock, target, option, wait)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}; choose another {option}") from error
    try:
        _remove_leftovers(lock.parent)
        yield
    finally:
        _remove(lock, descriptor)
        with suppress(OSError):  # they are not empty
            for folder in missing:
                folder.rmdir()


def _take(lock: Path, target: Path, option: str, wait: bool) -> int:
    """The descriptor of the lock file, locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | _FLAGS | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            free = _try_lock(descriptor)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            _log.warning("%s: its file system has no locks: let no other run write there", target)
            free = True
        if not free:
            holder = _holder(descriptor)
            os.close(descriptor)
            if wait:
                warn_once(f"{target} is in use by {holder}: waiting")
                time.sleep(_PAUSE)
                continue
            raise UserError(f"{target} is in use by {holder}: wait until it ends, or choose another {option}")
        if _is_there(lock, descriptor):
            break
        _release(descriptor)  # the holder before has removed the file
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(_self()).encode())
    return descriptor


def _self() -> dict[str, str]:
    program, *words = [*map(os.path.basename, sys.argv[:1]), *sys.argv[1:2]] or [""]
    command = f"detect {words[0]}" if words and program in ("__main__.py", "detect") else program or "Python"
    where = f"process {os.getpid()} on {platform.node()}"
    return {"command": command, "process": where, "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}


def _holder(descriptor: int) -> str:
    """Who holds a lock, as its file tells."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = json.loads(os.read(descriptor, 1000))
        return f"{holder['command']} ({holder['process']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is being written right now
        return "another run"


def _try_lock(descriptor: int) -> bool:
    """Lock an open file. Returns False if another process, or another part of this one, holds the lock.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except _Busy:
        return False
    _HELD.add(descriptor)
    return True


def _release(descriptor: int) -> None:
    _HELD.discard(descriptor)
    os.close(descriptor)


def _remove(path: Path, descriptor: int) -> None:
    """Remove a locked file, and then release the lock, so that the next holder sees that the file is gone."""
    if _OPEN_FILES_STAY:
        _release(descriptor)
    with suppress(OSError):
        path.unlink()
    if not _OPEN_FILES_STAY:
        _release(descriptor)


def _let_go() -> None:
    """In a forked process: close the locked files of the parent, or the locks would outlive it."""
    while _HELD:
        with suppress(OSError):
            os.close(_HELD.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return _OPEN_FILES_STAY or os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except OSError:
        return False


class Draft:
    """A temporary file beside `path`, which `finish` renames to `path`.

    It is locked until it is finished or discarded, so that the leftovers of killed processes, which `locked_folder` and
    `locked_files` remove, can be told from files that are being written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self.part = path.with_name(f".gridhead-{secrets.token_hex(6)}.part")
            self.descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
            with suppress(OSError):  # a file system without locks
                _try_lock(self.descriptor)
            if _is_there(self.part, self.descriptor):  # else it was removed as a leftover before it was locked
                break
            _release(self.descriptor)

    def finish(self, durable: bool = True) -> None:
        """Flush the content to the disk if `durable`, and give the file its name."""
        if durable:
            os.fsync(self.descriptor)
        if _OPEN_FILES_STAY:
            self._close()
        os.replace(self.part, self.path)
        self.discard()

    def discard(self) -> None:
        """Remove the file, unless it was finished."""
        self._close()
        self.part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self.descriptor >= 0:
            _release(self.descriptor)
            self.descriptor = -1


def _remove_leftovers(folder: Path) -> None:
    """Remove the drafts of killed processes."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDWR)
                try:
                    ended = _try_lock(descriptor)
                except OSError:
                    ended = False
                if ended:
                    _remove(path, descriptor)
                else:
                    _release(descriptor)
