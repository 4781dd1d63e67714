"""Shows the progress of long work: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Sized
from typing import TypeVar

from detect.utils.names import say, shown

T = TypeVar("T")
_EVERY = 10.0  # seconds between plain lines


def track(
    iterable: Iterable[T], total: int | None, title: str, note: Callable[[], str] | None = None
) -> Generator[T, None, None]:
    """The same items, with progress on stderr.

    Wrap it in `contextlib.closing` if the loop may be left early, so that the bar is removed at once.

    Args:
        iterable: the items.
        total: how many there are; None: its length, if it has one.
        title: what is being done.
        note: returns a short text to show beside the bar; called for each item.
    """
    if total is None:
        total = len(iterable) if isinstance(iterable, Sized) else None
    return (_bar if sys.stderr.isatty() else _lines)(iterable, total, shown(title), note or str)


def _bar(iterable: Iterable[T], total: int | None, title: str, note: Callable[[], str]) -> Generator[T, None, None]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, start = bar.add_task(title, total=total, rate="", note=""), time.monotonic()
        for done, item in enumerate(iterable, 1):
            yield item
            bar.update(task, completed=done, rate=_rate(done, start), note=shown(note()))


def _lines(iterable: Iterable[T], total: int | None, title: str, note: Callable[[], str]) -> Generator[T, None, None]:
    start = printed = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        if time.monotonic() - printed >= _EVERY:
            printed = time.monotonic()
            of = f"/{total} {_left(done, total, start)}" if total else " "
            say(f"{title}: {done}{of}{_rate(done, start)} {note()}".rstrip(), file=sys.stderr, flush=True)


def _left(done: int, total: int, start: float) -> str:
    """How long the rest will take, where it is a minute or more."""
    minutes = round((time.monotonic() - start) / done * (total - done) / 60)
    return f"{minutes} min left, " if minutes else ""


def _rate(done: int, start: float) -> str:
    return f"{done / max(time.monotonic() - start, 1e-9):.1f}/s"
