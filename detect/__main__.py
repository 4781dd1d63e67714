"""The program `detect`: its commands, its help and its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from detect.commands import COMMANDS
from detect.errors import quiet_pipe


def usage() -> str:
    """The top help; printed before anything heavy is imported."""
    lines = ["usage: detect COMMAND --flag value ...", "", "commands:"]
    lines += [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    lines += ["", "detect COMMAND --help explains the options of a command.", ""]
    lines += ["exit status: 0 done, 2 a mistake in arguments, data or files, 1 a defect of detect itself,"]
    lines += ["128 + N after signal N, with the work saved: 130 SIGINT (Ctrl-C), 143 SIGTERM, 129 SIGHUP"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name. Default: those of this process.

    Returns:
        The exit status: 0 done, 1 a defect of ours, 2 a mistake of the user; 128 + N after signal N, with the work
        saved and temporary files removed: 130 for SIGINT (Ctrl-C), 143 for SIGTERM, 129 for SIGHUP.
    """
    with quiet_pipe():
        return _main(list(sys.argv[1:] if arguments is None else arguments))
    return 0  # the reader of our output left


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("gridhead"))
        return 0
    return guarded(lambda: _run(arguments))


def guarded(command: Callable[[], object]) -> int:
    """Run one command and return its exit status, whatever happens."""
    from contextlib import ExitStack, closing, suppress

    from detect.errors import UserError, one_line, told_to_user
    from detect.utils.atomic_io import without_compiler_cache
    from detect.utils.interrupt import Interrupt, Watch

    with ExitStack() as stack:
        interrupt = stack.enter_context(closing(Interrupt(at_once=True)))
        if interrupt.old:  # this is the main thread
            stack.enter_context(closing(Watch()))
        stack.enter_context(without_compiler_cache())
        try:
            command()
            return 0
        except (KeyboardInterrupt, Exception) as error:
            if interrupt.asked or isinstance(error, KeyboardInterrupt):  # what is broken off may fail in any way
                with suppress(OSError):  # the terminal may be gone
                    what = "error" if isinstance(error, UserError) else "interrupted"
                    print(": ".join([what, *filter(None, [one_line(error)])]), file=sys.stderr)
                return interrupt.status
            if not (said := told_to_user(error)):
                raise
            print(f"error: {said}", file=sys.stderr)
            return 2


def _run(arguments: list[str]) -> None:
    from detect.errors import unknown

    if arguments[0] not in COMMANDS:
        raise unknown("command", arguments[0], COMMANDS)
    from detect.cli.parser import run

    run(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
