"""Ending on request: what SIGINT (Ctrl-C), SIGTERM and SIGHUP do to a command, and to its worker processes."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
ECHO = 2.0  # seconds in which a repeated signal is the same request: torchrun repeats what the terminal sent
PATIENCE = 0.2  # seconds that a blocked call is waited for once an end was asked for
DEAF = 5.0  # seconds that native code may keep a second request from being heard

_requests: list[tuple[int, float]] = []  # signals that asked for an end, and when a handler heard of them
_open: list[Interrupt] = []
_heard = 0.0  # when a handler last heard of any, repeated or not


class Interrupted(KeyboardInterrupt):
    """A request to end. Python ends itself by SIGINT, without our status, where native code met KeyboardInterrupt."""


class Interrupt:
    """Handles requests to end, by SIGINT, SIGTERM or SIGHUP, until it is closed.

    The first request sets `asked`, which long work reads where its files are in order, such as between two steps or
    frames. A second one raises KeyboardInterrupt, unless it comes within ECHO seconds of the first. A SIGHUP that was
    ignored before (nohup) stays ignored. In a thread other than the main one `asked` can only be read.

    Args:
        at_once: whether the first request raises KeyboardInterrupt too, as where nothing reads `asked`.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.at_once, self.old = at_once, {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
            if not _open:
                _requests.clear()
            _open.append(self)
            self.old = {s: signal.signal(s, self._ask) for s in ENDING if not _is_nohup(s)}

    @property
    def asked(self) -> bool:
        """Whether an end was asked for."""
        return bool(_requests)

    @property
    def status(self) -> int:
        """The exit status of a command that was ended by the first request: 128 and the number of the signal.

        That of SIGINT where KeyboardInterrupt came without a signal.
        """
        return 128 + (_requests[0][0] if _requests else signal.SIGINT)

    def _ask(self, number: int, frame: Any) -> None:
        global _heard
        _heard = time.monotonic()
        if number == getattr(signal, "SIGHUP", 0):
            _leave_terminal()
        if _is_new(number, _requests) and (self.at_once or len(_requests) > 1):
            raise Interrupted

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self.old.items():
            signal.signal(number, handler)
        if self in _open:
            _open.remove(self)
            if not _open:
                _requests.clear()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the first request wait until the end, which then raises KeyboardInterrupt where it would have at once.

    For imports of native code: some of it ends the whole process where an exception comes in between.
    """
    held, before = [one for one in _open if one.at_once], len(_requests)
    for one in held:
        one.at_once = False
    try:
        yield
    finally:
        for one in held:
            one.at_once = True
    if held and len(_requests) > before:
        raise Interrupted


def _is_new(number: int, requests: list[tuple[int, float]]) -> bool:
    """Append a signal to `requests`, unless it repeats the last of them."""
    now = time.monotonic()
    if requests and now - requests[-1][1] < ECHO:
        return False
    requests.append((number, now))
    return True


def _is_nohup(number: int) -> bool:
    return number == getattr(signal, "SIGHUP", 0) and signal.getsignal(number) == signal.SIG_IGN


def _leave_terminal() -> None:
    """Let what is still written to a terminal that has hung up get lost, where it would raise an error."""
    if sys.platform == "win32":  # which sends no SIGHUP
        return
    import termios

    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] != errno.ENOTTY:  # as files and pipes have it
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class Caller:
    """Makes calls that may block in native code, one after the other, by a thread of its own.

    Native code that waits for a network or a device hears no signal. Whoever waits for a call here does: the thread is
    then left behind with it.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None
        self._last: Future[Any] | None = None

    def __call__(self, function: Callable[[], T]) -> T:
        """What the function returns.

        Raises:
            KeyboardInterrupt: an end was asked for, and the function has not returned for PATIENCE seconds since.
            Whatever the function raises.
        """
        future = self._put(function)
        while not _is_done(future):
            if _requests:
                raise Interrupted
        return future.result()

    def close(self, last: Callable[[], object]) -> None:
        """End the thread after a last call. Where the call before it is stuck, nobody waits for them."""
        future = self._put(last)
        self._end()
        while not _is_done(future) and not _requests:
            pass
        if future.done():
            future.result()

    def _put(self, function: Callable[[], T]) -> Future[T]:
        if self._calls is None:
            self._calls = SimpleQueue()
            threading.Thread(target=_make, args=(self._calls, self._last), daemon=True).start()
        future: Future[T] = Future()
        self._calls.put((future, function))
        self._last = future
        return future

    def _end(self) -> None:
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None

    __del__ = _end


def _is_done(future: Future[Any]) -> bool:
    """Whether a call returns within PATIENCE seconds."""
    with suppress(Exception):  # also that of the call, which whoever asks for its result gets
        future.result(PATIENCE)
    return future.done()


def _make(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None], before: Future[Any] | None) -> None:
    """Make the calls that come, once the last one of the thread before has returned."""
    if before is not None:
        wait((before,))
    while (item := calls.get()) is not None:
        future, function = item
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
        del item, future, function  # or the last frame would be held


class Watch:
    """Ends the process where its main thread cannot: native code, such as a decoder, hears no signal.

    The kernel's note of each signal goes through a pipe to a thread. After a second request that no handler has heard
    within DEAF seconds, and after a third one in any case, that thread ends the process at once. On Windows, where a
    pipe is not waited for with a limit, only after the third one.
    """

    def __init__(self) -> None:
        self.ends = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self.ends[1], False)
        self.old = signal.set_wakeup_fd(self.ends[1], warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _watch(self) -> None:
        requests: list[tuple[int, float]] = []
        while len(requests) < 3:
            deaf = len(requests) == 2 and _heard < requests[1][1]
            if sys.platform == "win32" or select.select(self.ends[:1], [], [], DEAF if deaf else None)[0]:
                if not (data := os.read(self.ends[0], 1)):
                    return os.close(self.ends[0])
                if data[0] in ENDING and not _is_nohup(data[0]):
                    _is_new(data[0], requests)
            elif _heard < requests[1][1]:
                break
        os._exit(128 + requests[0][0])

    def close(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(self.old)
        os.close(self.ends[1])


def follow_parent() -> None:
    """For a worker process: end when its parent has ended, by `kill -9` too, or sends SIGTERM, and on no other request.

    What a terminal, torchrun, systemd or pkill sends to all processes of a job is for the main process to answer, which
    may still need its workers. Call it once, in the main thread of the worker.
    """
    if sys.platform != "win32":
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)  # the pipe of the parent's Watch
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN if number != signal.SIGTERM else signal.SIG_DFL)
    if sys.platform != "win32" and hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        if sys.platform == "win32" or not hasattr(signal, "sigtimedwait"):
            time.sleep(1)
        elif (sent := signal.sigtimedwait({signal.SIGTERM}, 1)) is not None and sent.si_pid == parent:
            os._exit(0)
    time.sleep(6)  # DataLoader's own watch ends the worker in an orderly way within 5 seconds, if it can
    os._exit(1)
