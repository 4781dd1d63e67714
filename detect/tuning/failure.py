"""Why a training has failed, in one line for the record of its trial."""

from __future__ import annotations

import signal
from pathlib import Path

from detect.utils.atomic_io import read_bytes
from detect.utils.names import shown

LOG = "train.log"
_TAIL = 20_000  # bytes of the log that are searched
_LONGEST = 400
_OF_MEMORY = ("out of memory", "outofmemoryerror", "cannot allocate memory", "memoryerror", "not enough memory")


def reason_of(status: int, folder: Path) -> str:
    """The reason for an exit status other than 0, from the last lines that the training wrote.

    Args:
        status: the exit status; negative: the signal that killed the process.
        folder: the folder of the run.
    """
    lines = log_lines(folder)
    text = "\n".join(lines).lower()
    if any(sign in text for sign in _OF_MEMORY):
        return f"out of memory: {_last(lines)}"
    if status < 0:
        return f"killed by {_name(-status)}, as the system does when memory runs out; see {folder / LOG}"
    said = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
    if "loss is not finite" in said:
        return _short(f"diverged: {said}")
    if said:
        return _short(said)
    return _short(f"exit status {status}: {_last(lines)}")


def log_lines(folder: Path) -> list[str]:
    """The last lines of the log of a run, without empty ones."""
    try:
        text = read_bytes(folder / LOG)[-_TAIL:].decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]


def _last(lines: list[str]) -> str:
    return _short(lines[-1]) if lines else "it wrote nothing"


def _short(text: str) -> str:
    return shown(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
