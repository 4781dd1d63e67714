"""What the processes of a loader send one another: batches in few large pieces.

A user's error travels as a value, for DataLoader would wrap it.
"""

from __future__ import annotations

import errno
import functools
import gc
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from multiprocessing.connection import Listener
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from detect.data.letterbox import Letterbox
from detect.errors import UserError
from detect.plugins import Loaded
from detect.types import Batch, Target
from detect.utils.atomic_io import TREES
from detect.utils.interrupt import follow_parent
from detect.utils.names import say

FIELDS = tuple(field.name for field in fields(Target))
LARGE = 2**20  # bytes: from there on shared memory is faster than a pipe
SCARCE = (errno.ENOSPC, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)  # a machine has no more of something


class Packed(NamedTuple):
    """A batch on its way from a worker: tensors travel by a file handle each, so all targets travel as few arrays."""

    images: torch.Tensor | np.ndarray  # (B, H, W, 3), or (B, ..., C) of signals; an array travels through a pipe
    columns: dict[str, Any]  # the targets' fields: their values; tensors end to end, after the length of each
    fits: list[Letterbox]


class _Batches(Dataset):
    """What DataLoader asks for a batch, by a list of keys: each sample is made when `_pack` comes to it."""

    def __init__(self, sample: Callable[[Any], tuple]) -> None:
        data = getattr(sample, "__self__", None)
        remote = TREES in str(getattr(getattr(data, "annotations", None), "root", ""))
        self.sample, self.ahead = sample, getattr(data, "fetch_ahead", None) if remote else None

    def __getstate__(self) -> dict[str, Any]:
        """Plugins come first: a process that is spawned has to import their classes before it has objects of them."""
        return {"plugins": Loaded(), "sample": self.sample, "ahead": self.ahead}

    def __getitem__(self, draws: list) -> tuple[int, Iterable[tuple]]:
        if self.ahead is not None:
            self.ahead(draws)
        return len(draws), map(self.sample, draws)


def _pack(batch: Any) -> Packed | UserError:
    """Samples (image (H, W, 3), Target, perhaps its Letterbox) of one size in arrays, each let go before the next."""
    count, samples = batch
    info = get_worker_info()
    images, targets, fits = np.empty(0), [], []
    room: torch.Tensor | np.ndarray = images
    try:
        for i, (image, target, *fit) in enumerate(samples):
            if i == 0:
                room = torch.empty((count, *image.shape), dtype=torch.from_numpy(image).dtype)
                if info is not None:
                    room = _shared(room, info.num_workers)
                images = room.numpy() if isinstance(room, torch.Tensor) else room
            images[i] = image
            targets.append(target)
            fits += fit
    except UserError as error:
        return error
    columns: dict[str, Any] = {}
    for name in FIELDS:
        values = columns[name] = [getattr(target, name) for target in targets]
        if values[0] is None:
            del columns[name]
        elif isinstance(values[0], torch.Tensor):
            joined = torch.cat(values)
            rows: torch.Tensor | np.ndarray = joined.numpy()
            if info is not None and joined.nbytes >= LARGE:
                rows = _shared(joined, info.num_workers)
                torch.as_tensor(rows).copy_(joined)
            columns[name] = [len(value) for value in values], rows
    return Packed(room, columns, fits)


def _shared(room: torch.Tensor, workers: int) -> torch.Tensor | np.ndarray:
    """A tensor like `room`, in memory that the main process sees too; or `room` as an array.

    An array is where /dev/shm, small in containers, has no room for a batch of each worker, or where there can be no
    socket to hand the memory over.
    """
    if not _has_sockets():
        return room.numpy()
    try:
        if sys.platform == "linux":
            free = os.statvfs("/dev/shm")
            if free.f_bavail * free.f_frsize < workers * room.nbytes:  # all of them may be about to fill one
                return room.numpy()
        storage = torch.UntypedStorage._new_shared(room.nbytes, device="cpu")
    except (OSError, RuntimeError):  # there is none, or somebody else was faster
        return room.numpy()
    return torch.empty(0, dtype=room.dtype).set_(storage).view(room.shape)


@functools.cache
def _has_sockets() -> bool:
    """Whether the temporary folder can hold the socket by which a worker hands over shared memory.

    Not where its path is too long, about 75 bytes, or it cannot be written. multiprocessing would print a traceback in
    the worker and lose the batch, for which the main process would wait for ever.
    """
    try:
        Listener().close()
    except OSError:
        return False
    return True


@functools.cache
def _tell_small() -> None:
    """Say, once, that batches go a slower way for want of shared memory."""
    why, remedy = "/dev/shm has no room for", "lower --workers, or give more (docker run --shm-size 1g)"
    if not _has_sockets():
        why, remedy = f"{tempfile.gettempdir()} holds no sockets for", "let TMPDIR name a folder with a shorter path"
    say(f"{why} the batches of all workers, some take a slower way: {remedy}", file=sys.stderr)


def _start_worker(_: int) -> None:
    follow_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def through_workers(sample: Callable[[Any], tuple], sampler: Any, workers: int, pin: bool) -> DataLoader:
    """Return a loader of packed batches: `sampler` yields the keys of each, `sample` makes the sample of a key."""
    several: dict[str, Any] = {}
    if workers:
        context = "fork" if sys.platform == "linux" else None  # forked workers share the annotations and the cache
        several = {"persistent_workers": True, "multiprocessing_context": context, "worker_init_fn": _start_worker}
    return DataLoader(
        _Batches(sample),
        batch_size=None,
        sampler=sampler,
        collate_fn=_pack,
        num_workers=workers,
        pin_memory=pin,
        generator=torch.Generator(),  # its own: iterating must not advance the training's
        **several,
    )


def _failed(error: OSError | RuntimeError) -> UserError:
    """The error for processes, or shared memory, that the system could not provide."""
    text, number = " ".join(str(error).split()), getattr(error, "errno", None)
    remedy = "memory may have run out: lower --workers or --batch"
    if number == errno.ENOSPC or any(word in text for word in ("shared memory", "Bus error")):
        remedy = "/dev/shm is full: lower --workers, or give more (docker run --shm-size 1g)"
    elif number is not None:
        remedy = "lower --workers"
    why = re.sub(r"^.*(?=unable to |DataLoader worker \()", "", text).partition(". It is possible")[0].rstrip(".")
    return UserError(f"{why}; {remedy}; a run goes on with --resume")


def _killed(handler: Any, number: int, frame: Any) -> None:
    """torch's `handler` of SIGCHLD, raising the user's error wherever the main process is when a worker was killed."""
    try:
        handler(number, frame)
    except RuntimeError as error:
        raise _failed(error) from None


@contextmanager
def ready_to_fork() -> Iterator[None]:
    """Make forking processes safe and their memory shared for the block.

    A forked process has none of the threads of OpenCV's pool, but all of their locks: it would wait for ever for one
    that was held. So the threads end. And its garbage collector would write into every object that it has inherited,
    which copies their pages one after the other for as long as it runs: frozen, they are left alone.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        cv2.setNumThreads(threads)


def _started(loader: DataLoader) -> Iterator[Any]:
    """What a loader's workers send; they are started, and a worker that is killed raises an error of ours."""
    if sys.platform != "win32":
        before = signal.getsignal(signal.SIGCHLD)
        with ready_to_fork():
            items = iter(loader)
        handler = signal.getsignal(signal.SIGCHLD)
        if handler is not before:
            signal.signal(signal.SIGCHLD, functools.partial(_killed, handler))
        return items
    return iter(loader)  # Windows sends no SIGCHLD: torch itself looks after its workers


def stream(loader: DataLoader) -> Iterator[Batch]:
    """Yield the batches of a loader, unpacked.

    Raises:
        UserError: a batch could not be made; workers cannot be started, are killed, or lack memory.
    """
    try:
        for packed in _started(loader):
            if isinstance(packed, UserError):
                raise UserError(*packed.args)  # a new one: through `packed` this frame would keep the workers alive
            images = packed.images
            if not isinstance(images, torch.Tensor):
                _tell_small()
                images = torch.from_numpy(images)
            columns = (
                torch.as_tensor(column[1]).split(column[0]) if isinstance(column, tuple) else column
                for column in packed.columns.values()
            )
            rows = (zip(packed.columns, row, strict=True) for row in zip(*columns, strict=True))
            yield Batch(images.movedim(-1, 1), [Target(**dict(row)) for row in rows], packed.fits)
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) not in SCARCE and "shared memory" not in str(error):
            raise
        raise _failed(error) from None
