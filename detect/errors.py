"""The one exception that is the user's to mend."""

import difflib
import errno
import functools
import sys
from collections.abc import Callable, Iterable
from typing import ParamSpec

P = ParamSpec("P")
LONGEST = 4000  # characters of a message: a damaged file can hold a name of any length
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))  # no room, for all, for this user, or for this process
_OF_FILES = FULL | {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


class UserError(Exception):
    """A mistake in data, files or arguments: one line naming file, record and remedy; the command ends with 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not registered, with the nearest known name suggested."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
    return UserError(f"unknown {kind} {name!r}: {hint}")


def one_line(error: BaseException) -> str:
    """What an error says, in one line that a terminal can take whatever names are in it."""
    from detect.utils.names import shown  # late: it needs this module

    text = " ".join(str(error).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return shown(text)


def told_to_user(error: BaseException) -> str:
    """The line for an error that is the user's to mend: a UserError, or a disk or file that fails; "" for a defect."""
    if isinstance(error, UserError):
        return one_line(error)
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
    except OSError:  # it has no room for a single byte
        return "the temporary folder"


def in_one_line(program: Callable[P, object]) -> Callable[P, int]:
    """`program` with an exit status: 0, or 2 after one line on stderr for a UserError and for a file that fails."""

    @functools.wraps(program)
    def main(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            program(*args, **kwargs)
        except (UserError, OSError) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2
        return 0

    return main
