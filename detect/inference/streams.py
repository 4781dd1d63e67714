"""Several videos, cameras and streams at once: each is read by a thread of its own, and none waits for another.

A round is what one pass of the model takes: the frames that are there now, at most a few of each stream. A stream that
stalls has none, and nobody waits for it; one that breaks off is opened again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch

from detect.errors import UserError
from detect.inference.predictor import AHEAD
from detect.inference.source import Source, SourcePart
from detect.types import Frame
from detect.utils.interrupt import PATIENCE, stop_if_asked
from detect.utils.names import counted

QUEUE = 8  # frames of a stream that wait for the model in every-frame mode; fewer where they are large
BACK_OFF = (1.0, 30.0)  # seconds to wait before a stream is opened again: the first time, doubled up to the longest
_log = logging.getLogger("detect")


class StreamReader:
    """Reads one stream in a thread of its own.

    A camera or stream that breaks off is opened again, with a longer and longer wait in between. The times of its
    frames go on by the clock, and so do their numbers, by its frames a second: trackers know what they missed.

    kind, files, rates, parts: as those of `Source`; rates are known once the stream is open. read: frames that came;
    lost: those that a later one replaced before the model took them; reconnects: how often it was opened again and gave
    a frame; failure: why it cannot be read, or was given up; finished: nothing more comes.

    Args:
        name: what it is called, in messages and as a folder.
        open_source: opens it.
        opened: a file, which was opened to see whether it can be read; None for a camera or stream.
        latest: keep only the newest frame. Otherwise the reader waits until there is room, and none is lost.
        retries: attempts in a row to open it again; 0: without end.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], Source],
        opened: Source | None = None,
        latest: bool = False,
        retries: int = 0,
    ) -> None:
        self.name, self.latest, self.retries, self._open, self._opened = name, latest, retries, open_source, opened
        self.kind = opened.kind if opened else "stream"
        self.files: Sequence[Path] = opened.files if opened else ()
        self.parts: Sequence[SourcePart] = opened.parts if opened else ()
        self.rates: dict[str, Fraction | None] = dict(opened.rates) if opened else {}
        self.count = opened.count if opened else None
        self.number, self.room = 0, AHEAD
        self.queue = deque[Frame]()
        self.read = self.lost = self.reconnects = self.failures = 0
        self.failure, self.finished = "", False
        self.error: BaseException | None = None  # a defect that ended the thread
        self._ready, self._stop = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"stream {name}", daemon=True)
        self._last: tuple[int, float, float] | None = None  # of the last frame: number, time, and when it came

    def start(self, number: int, room: int, ready: threading.Condition) -> None:
        """Begin to read.

        Args:
            number: its number among the streams, which its frames have as `part`.
            room: bytes that waiting frames may take.
            ready: notified whenever something changes.
        """
        self.number, self.room, self._ready = number, room, ready
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self._read_once():
                pass
        except KeyboardInterrupt:  # the main thread raises it, too
            pass
        except BaseException as error:
            self.error = error
        finally:
            with self._ready:
                self.finished = True
                self._ready.notify_all()

    def _read_once(self) -> bool:
        """Open the stream and read it to its end. Returns whether it should be opened again, after the wait."""
        came, reason, ends = self.read, "it ended", bool(self._opened)
        try:
            with self._opened or self._open() as source:
                ends = all(getattr(part, "has_end", False) for part in source.parts)
                self._read_from(source)
        except (UserError, OSError, av.error.FFmpegError) as error:
            reason = str(error)
            ends = ends and (bool(self._opened) or self.read > came)
            self.failure = reason if ends else ""
        return not ends and self._wait(reason)

    def _read_from(self, source: Source) -> None:
        shift, later, began = 0, 0.0, False
        with closing(iter(source.parts[0])) as frames:  # type: ignore[type-var]  # a generator
            for frame in frames:
                if not began:
                    shift, later = self._joined(source, frame)
                    began = True
                name = frame.name if source.kind == "video" else self.name
                time_ = None if frame.time is None else frame.time + later
                self._give(replace(frame, name=name, index=frame.index + shift, time=time_, part=self.number))
                if self._stop.is_set():
                    return

    def _joined(self, source: Source, first: Frame) -> tuple[int, float]:
        """What to add to the numbers and times of frames, so that they go on after those before the break."""
        if source.kind != "video":
            self.rates[self.name] = source.fps
        if self._last is None:
            return 0, 0.0
        self.reconnects += 1
        _log.warning("%s: is back after %s", self.name, counted(self.failures, "attempt"))
        index, before, came = self._last
        away = max(time.monotonic() - came, 0.001)
        missed = round(away * float(source.fps or 0)) * getattr(source.parts[0], "stride", 1)
        return index + max(missed, 1) - first.index, before + away - (first.time or 0.0)

    def _give(self, frame: Frame) -> None:
        """Put a frame where the model takes it; in every-frame mode, wait for room."""
        with self._ready:
            self.read, self.failures = self.read + 1, 0
            if self.latest and self.queue:
                self.queue.clear()
                self.lost += 1
            most = max(1, min(QUEUE, self.room // max(frame.image.nbytes, 1)))
            while len(self.queue) >= most and not self._stop.is_set():
                self._ready.wait(PATIENCE)
                stop_if_asked()
            self.queue.append(frame)
            self._last = frame.index, frame.time or 0.0, time.monotonic()
            self._ready.notify_all()

    def _wait(self, reason: str) -> bool:
        """Wait before the stream is opened again. Returns whether it should be."""
        if self._stop.is_set():
            return False
        with self._ready:
            self.failures += 1
            self.failure = reason
            self._ready.notify_all()
        if self.retries and self.failures > self.retries:
            _log.warning("%s: given up after %s", self.name, counted(self.retries, "attempt"))
            return False
        seconds = min(BACK_OFF[0] * 2 ** min(self.failures - 1, 10), BACK_OFF[1])
        if self.failures == 1:
            _log.warning("%s: %s; opening it again in %g s, and until it is back", self.name, reason, seconds)
        return not self._stop.wait(seconds)

    def line(self, frames: int) -> str:
        """What became of it, in one line, given how many of its frames were predicted."""
        given = counted(frames, "frame")
        why = f" ({self.failure})" if self.failure and (self.finished or not self.read) else ""
        return f"{self.name}: {given}, {self.lost} lost, {counted(self.reconnects, 'reconnect')}{why}"

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread at most so long. One that is blocked in native code is left behind: it is a daemon."""
        with suppress(RuntimeError):  # it was never started
            self._thread.join(seconds)


class Round(list[Frame]):
    """Frames that go to the model together. `is_live`: as one batch, which uses all threads."""

    is_live = False


class Streams:
    """Several streams that are read at once.

    Args:
        readers: one for each stream; their order gives the streams' numbers.
        batch: most frames that go through the network together.
        skip_bad: whether files that cannot be read are left out; otherwise they are an error, after the others.
        device: where the network runs. A round is no longer than what it computes at once: the frames that are left
            are replaced by newer ones meanwhile.

    Raises:
        UserError: while reading: no stream gave a frame, or a file cannot be read.
    """

    is_live = True
    hidden = 0  # images inside of videos, as of `Source`

    def __init__(
        self, readers: Sequence[StreamReader], batch: int = 1, skip_bad: bool = False, device: str = "cpu"
    ) -> None:
        self.readers, self.batch, self.most, self.turn = readers, batch, batch, 0
        if device == "cpu":  # as many batches are computed at once as there are threads
            self.most *= torch.get_num_threads()
        self.skip_bad = skip_bad
        self.ready = threading.Condition()
        self.files = [file for reader in readers for file in reader.files]
        self.kind = "streams"
        counts = [reader.count for reader in readers if not reader.latest]
        known = [count for count in counts if count is not None]
        self.count = sum(known) if len(known) == len(readers) else None

    def __enter__(self) -> Streams:
        for number, reader in enumerate(self.readers):
            reader.start(number, AHEAD // len(self.readers), self.ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Round]:
        """The rounds, as soon as any stream has a frame, until all streams are at their end or given up."""
        while True:
            with self.ready:
                while not (found := self._gathered()):
                    if self._is_over():
                        self._require_some()
                        return
                    self.ready.wait(PATIENCE)
                    stop_if_asked()
                self.ready.notify_all()
            yield found

    def _gathered(self) -> Round:
        """Waiting frames of the streams in turn, sorted by size.

        Frames of one stream stay in their order, and those of a round have one size.
        """
        if error := next((reader.error for reader in self.readers if reader.error), None):
            raise error
        first = self.turn
        ready, found, shapes = [*self.readers[first:], *self.readers[:first]], Round(), dict[int, Any]()
        while len(found) < self.most:
            ready = [one for one in ready if one.queue and _same(shapes, one.number, one.queue[0].image.shape)]
            if not ready:
                break
            found += [reader.queue.popleft() for reader in ready[: self.most - len(found)]]
        if found:
            self.turn = (found[-1].part + 1) % len(self.readers)
        found.sort(key=lambda frame: frame.image.shape)
        found.is_live = len(found) <= self.batch
        return found

    def _is_over(self) -> bool:
        """Whether nothing more is to be expected: those that are not at their end could never be opened."""
        return all(reader.finished or (reader.failures and not reader.read) for reader in self.readers)

    def _require_some(self) -> None:
        if not any(reader.read for reader in self.readers):
            failed = next(reader for reader in self.readers if reader.failure)
            raise UserError(f"no stream can be read; the first: {failed.name}: {failed.failure}")
        if self.left_out and not self.skip_bad:
            raise UserError(f"stream {self.left_out[0]}; the others were read; --skip-bad leaves it out")

    def close(self) -> None:
        """Stop reading; streams that are blocked are left behind."""
        for reader in self.readers:
            reader.stop()
        with self.ready:
            self.ready.notify_all()
        end = time.monotonic() + 1
        for reader in self.readers:
            reader.join(max(end - time.monotonic(), 0))

    @property
    def left_out(self) -> list[str]:
        """A line for each file that could not be read."""
        return [f"{one.name}: {one.failure}" for one in self.readers if one.failure and one.kind == "video"]


def batch_of(batch: int, streams: int, device: str) -> int:
    """The frames that go through the network together: on a GPU one of each stream, unless `batch` says more."""
    return batch if batch > 1 or device == "cpu" else max(streams, 1)


def _same(known: dict[int, Any], key: int, value: Any) -> bool:
    return bool(known.setdefault(key, value) == value)


def in_rounds(predictor: Any) -> Any:
    """A predictor of the rounds of `Streams`: each goes to `predictor` by itself, so that nothing waits for the next.

    Args:
        predictor: a function from frames to a generator of pairs, a frame and its result.
    """

    def predict(rounds: Streams) -> Generator[tuple[Frame, Any], None, None]:
        for frames in rounds:
            with closing(predictor(frames)) as pairs:
                yield from pairs

    return predict
