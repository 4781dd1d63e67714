"""The one exception that is the user's to mend."""

import difflib
import functools
import sys
from collections.abc import Callable, Iterable
from typing import ParamSpec

P = ParamSpec("P")


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
    from detect.names import shown  # late: it needs this module

    return shown(" ".join(str(error).split()))


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
