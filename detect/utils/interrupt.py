"""Interrupts: what SIGINT (Ctrl-C), SIGTERM and SIGHUP do to a command and to its worker processes."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
ECHO = 2.0  # seconds within which a repeated signal is the same request: torchrun repeats that of the terminal
PATIENCE = 0.2  # seconds to wait for a blocked call after a request
DEAF = 5.0  # seconds for which native code may keep a handler from running after a second request

_requests: list[tuple[int, float]] = []  # the signals, and when a handler ran for them
_open: list[Interrupt] = []
_heard = 0.0  # when a handler last ran, for a repeated signal or not


class Interrupted(KeyboardInterrupt):
    """An interrupt. For a plain KeyboardInterrupt raised in native code, Python ends itself without our exit status."""


class Interrupt:
    """Handles SIGINT, SIGTERM and SIGHUP as requests to stop, until it is closed.

    The first request sets `asked`, which long work checks when its files are consistent, such as between two steps or
    frames. A second one raises KeyboardInterrupt, unless it comes within ECHO seconds of the first. A SIGHUP that was
    ignored before (nohup) stays ignored. In threads other than the main one `asked` can only be read.

    Args:
        at_once: the first request raises KeyboardInterrupt, too; for work that does not check `asked`.
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
        """Whether there was a request to stop."""
        return bool(_requests)

    @property
    def status(self) -> int:
        """The exit status of an interrupted command: 128 and the number of the first signal.

        SIGINT is assumed for a KeyboardInterrupt without a signal.
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
        """Restore the previous handlers."""
        for number, handler in self.old.items():
            signal.signal(number, handler)
        if self in _open:
            _open.remove(self)
            if not _open:
                _requests.clear()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer the KeyboardInterrupt of a first request to the end of the block.

    For imports of native code, some of which aborts the process if an exception is raised in between.
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


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt at a first request again, inside `uninterrupted`, too: for waiting, as for a network."""
    held = [one for one in _open if not one.at_once]
    if held and _requests:
        raise Interrupted
    for one in held:
        one.at_once = True
    try:
        yield
    finally:
        for one in held:
            one.at_once = False


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt if there was a request to stop: for loops that wait for something, in any thread."""
    if _requests:
        raise Interrupted


def _is_new(number: int, requests: list[tuple[int, float]]) -> bool:
    """Append a signal to `requests`, unless it repeats the last one. Returns whether it was appended."""
    now = time.monotonic()
    if requests and now - requests[-1][1] < ECHO:
        return False
    requests.append((number, now))
    return True


def _is_nohup(number: int) -> bool:
    return number == getattr(signal, "SIGHUP", 0) and signal.getsignal(number) == signal.SIG_IGN


def _leave_terminal() -> None:
    """Discard what is still written to a terminal that has hung up, instead of raising errors."""
    if sys.platform != "win32":  # which has no SIGHUP
        import termios

        for descriptor in (1, 2):
            try:
                termios.tcgetattr(descriptor)
            except termios.error as error:
                if error.args[0] != errno.ENOTTY:  # the error of files and pipes
                    with suppress(OSError):
                        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class Caller:
    """Makes calls that may block in native code, one after the other, in a thread of its own.

    Native code that waits for a network or a device is not interrupted by signals. Waiting for a call here is: the
    blocked thread is then abandoned.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None
        self._last: Future[Any] | None = None

    def __call__(self, function: Callable[[], T]) -> T:
        """Call the function in the thread.

        Returns:
            What the function returns.

        Raises:
            KeyboardInterrupt: there was a request to stop, and the function did not return within PATIENCE seconds.
            Exception: whatever the function raises.
        """
        future = self._put(function)
        while not _is_done(future):
            stop_if_asked()
        return future.result()

    def close(self, last: Callable[[], object]) -> None:
        """End the thread after a last call. If the call before it is blocked, an interrupt ends the waiting."""
        future = self._put(last)
        self._end()
        while not _is_done(future) and not _requests:
            pass
        if future.done():
            future.result()

    def _put(self, function: Callable[[], T]) -> Future[T]:
        from concurrent.futures import Future  # late: it imports logging, for which `--help` would wait

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
    with suppress(Exception):  # an exception of the call itself is raised when its result is asked for
        future.result(PATIENCE)
    return future.done()


def _make(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None], before: Future[Any] | None) -> None:
    """Make the calls of the queue, once the last call of the previous thread has returned."""
    if before is not None:
        from concurrent.futures import wait

        wait((before,))
    while (item := calls.get()) is not None:
        future, function = item
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
        del item, future, function  # otherwise the last frame would stay in memory


class Watch:
    """Ends the process if its main thread cannot: native code, such as a decoder, is not interrupted by signals.

    Each signal is written to a pipe, which a thread reads. That thread ends the process after a second request for
    which no handler runs within DEAF seconds, and after a third one in any case; on Windows, which cannot wait for a
    pipe with a timeout, only after the third one.
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
    """For a worker process: end when its parent has ended (by `kill -9`, too) or sends SIGTERM; ignore other signals.

    Signals that a terminal, torchrun, systemd or pkill sends to all processes of a job are handled by the main process,
    which may still need its workers. Call it once, in the main thread of the worker.
    """
    if sys.platform != "win32":
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)  # the pipe of the parent
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
    time.sleep(6)  # DataLoader ends the worker in an orderly way within 5 seconds, if it can
    os._exit(1)
