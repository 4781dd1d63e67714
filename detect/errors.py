"""UserError, the exception for mistakes of the user, and how errors are told in one line."""

import difflib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec

P = ParamSpec("P")
LONGEST = 4000  # characters of a message: a damaged file can hold a name of any length
FULL = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
)  # the disk, the quota of the user or the limit of the process is exhausted
_OF_FILES = FULL | {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


class UserError(Exception):
    """A mistake in data, files or arguments: one line that names file, record and remedy. The exit status is 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown name, with the nearest known one suggested.

    Args:
        kind: what the name is of, such as "backbone".
        name: as given.
        known: the known names.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
    return UserError(f"unknown {kind} {name!r}: {hint}")


def one_line(error: BaseException) -> str:
    """The message of an error as one line that is safe to print: see `shown`."""
    from detect.utils.names import shown  # late: it needs this module

    text = " ".join(str(error).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return shown(text)


def told_to_user(error: BaseException) -> str:
    """The line for a UserError, or an error of a disk or file; "" for a defect of gridhead."""
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return one_line(Exception(f"{error.object[:200]}: no file can have this name, which holds half a character"))
    if not isinstance(error, OSError) or error.errno not in _OF_FILES:
        return ""
    said = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    if error.errno in FULL:
        said += f"; free some space there and in {_temporary()}, or let TMPDIR name a folder that has some"
    return one_line(Exception(said))


def _temporary() -> str:
    import tempfile

    try:
        return tempfile.gettempdir()
    except OSError:  # no temporary folder can be written
        return "the temporary folder"


def in_one_line(program: Callable[P, object]) -> Callable[P, int]:
    """A program with an exit status: 0, or 2 after one line on stderr for a UserError or an error of a file."""

    @functools.wraps(program)
    def main(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            with quiet_pipe():
                program(*args, **kwargs)
        except (UserError, OSError) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2
        return 0

    return main


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """End the block without an error when the reader of our output has left, as `head` does once it has its lines."""
    try:
        yield
    except BrokenPipeError:
        pass
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except BrokenPipeError:  # Python would flush again at its end, and complain
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
