"""Frames to results in pixels of the source: letterbox, batch, network, decoding, and back to the source."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from copy import copy
from operator import length_hint
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from detect.data.letterbox import Letterbox, in_source
from detect.data.selective_search import selective_search
from detect.errors import UserError
from detect.models.base import Model
from detect.types import Frame, Postprocess
from detect.utils.device import autocast
from detect.utils.image_threads import threads_for

T = TypeVar("T")
R = TypeVar("R")
_END: Any = object()
AHEAD = 256 * 2**20  # bytes of images that may be read before the network takes them


class Prepared(NamedTuple):
    """A frame on its canvas (h, w, 3), with proposals (P, 4) on the canvas if the model needs them."""

    frame: Frame
    fit: Letterbox
    canvas: np.ndarray
    proposals: torch.Tensor | None


class Predictor:
    """Predicts the objects, or the class, of images.

    Consecutive frames of one canvas shape go through the network together; results come in the order of the frames. A
    thread reads and letterboxes the next frames while the network works. On the CPU as many batches are computed at
    once as torch has threads, each by one thread: threads that share one small image spend half of their time waiting
    for one another. Frames of a live source are predicted one by one. A single image is computed by one thread where
    more would hardly be faster.

    Args:
        model: prepared by `for_inference`, on `device`.
        size: the longer side of the canvas, or its (h, w), in pixels.
        keep: which detections are kept.
        batch: most images that go through the network together.
        device: where the network runs.
        dtype: its floating-point type.
        finish: makes the result in the source image of one on the canvas and its letterbox.
    """

    def __init__(
        self,
        model: Any,
        size: int | tuple[int, int],
        keep: Postprocess | None = None,
        batch: int = 1,
        device: torch.device = torch.device("cpu"),  # noqa: B008  (a value)
        dtype: torch.dtype = torch.float32,
        finish: Callable[[Any, Letterbox], Any] = in_source,
    ) -> None:
        self.model, self.size, self.keep, self.batch, self.finish = model, size, keep or Postprocess(), batch, finish
        self.pixels, self.device, self.precision = model.metadata.preprocess, device, autocast(device, dtype)
        self.threaded = device.type == "cpu" and isinstance(model, Model)  # torch's threads compute it
        sides = (size, 3 * size // 4) if isinstance(size, int) else size  # of most photographs
        self.alone = threads_for(sides[0] * sides[1]) if self.threaded else 0  # threads of a single image

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Any], None, None]:
        """Each frame with its result, on the CPU: Detections in its pixels, Classification or Embedding."""
        count, threads = length_hint(frames, 2), 1
        if self.threaded and not getattr(frames, "is_live", False):
            threads = min(torch.get_num_threads(), count)
        # A single image is read here: a thread of its own would only cost time.
        ahead = 0 if count == 1 else max(4, (threads + 1) * self.batch)
        with (
            closing(prefetch(map(self._prepare, frames), ahead)) as prepared,
            closing(parallel_map(self._predict, self._batches(prepared), threads)) as predicted,
        ):
            for pairs in predicted:
                yield from pairs

    def _batches(self, prepared: Iterable[Prepared]) -> Iterator[list[Prepared]]:
        """Consecutive frames of one canvas shape, at most `batch` together."""
        waiting: list[Prepared] = []
        for item in prepared:
            if waiting and item.canvas.shape != waiting[0].canvas.shape:
                yield waiting
                waiting = []
            waiting.append(item)
            if len(waiting) >= self.batch:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _prepare(self, frame: Frame) -> Prepared:
        if frame.image.ndim != 3:
            raise UserError(
                f"{frame.name} is not an image, and the model takes images: give images, or a model of signals"
            )
        fit = Letterbox.fit(frame.image.shape[:2], self.size, self.pixels, self.model.square)
        proposals = None
        if self.model.needs_proposals:
            proposals = fit.forward(torch.from_numpy(selective_search(frame.image)))
        return Prepared(frame, fit, fit.apply(frame.image), proposals)

    def _predict(self, items: list[Prepared]) -> list[tuple[Frame, Any]]:
        canvases = [item.canvas for item in items]
        given = ([item.proposals for item in items],) if self.model.needs_proposals else ()
        stacked = canvases[0][None] if len(canvases) == 1 else np.stack(canvases)
        threads = torch.get_num_threads()
        if limited := self.threaded and len(items) == 1 and self.alone < threads:
            torch.set_num_threads(self.alone)
        try:
            with torch.inference_mode():
                # The permuted view is what torch calls channels-last: no copy, and the faster layout for convolutions.
                images = torch.from_numpy(stacked).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                with copy(self.precision):  # an autocast keeps what it restores, which threads must not share
                    raw = self.model(images, *given)
                results = self.model.postprocess(raw, self.keep)
        finally:
            if limited:
                torch.set_num_threads(threads)
        return [(item.frame, self.finish(result, item.fit)) for item, result in zip(items, results, strict=True)]


def prefetch(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """The same items in the same order, made by a thread that is up to `ahead` items in front.

    It makes fewer large images in front, so that they take no more than about AHEAD bytes. Closing the generator ends
    the thread.

    Args:
        items: made as they are iterated; what this raises is raised here, after the items before it.
        ahead: 0: no thread, the caller makes the items.
    """
    if not ahead:
        yield from items
        return
    iterator = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        coming = deque([thread.submit(next, iterator, _END)])
        while (item := coming.popleft().result()) is not _END:
            frame: Any = getattr(item, "frame", item)
            room = AHEAD // max(frame.image.nbytes, 1) if isinstance(frame, Frame) else ahead
            while len(coming) < min(ahead, max(room, 1)):
                coming.append(thread.submit(next, iterator, _END))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)


def parallel_map(function: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """The function's value for each item, in the order of the items.

    Args:
        threads: how many values are computed at once, each by a thread of its own in which torch is limited to one
            thread. 1: the caller computes them, with all of torch's threads.

    Raises:
        Whatever the items or the function raise, after the values of the items before it.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    threads_of_caller = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "predict", torch.set_num_threads, (1,))
    pending: deque[Future[R]] = deque()
    try:
        while True:
            try:
                pending.append(pool.submit(function, next(remaining)))
            except StopIteration:
                break
            except Exception as error:
                pending.append(Future())
                pending[-1].set_exception(error)
                break
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads_of_caller)  # what the limit in the threads changed for all of the process
