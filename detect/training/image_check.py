"""The check of a large set's images beside the first epoch, in a process of its own.

Headers are read before the first step, for they decide how large images are and which way up. What is left is whether
all pixels are there. That changes no sample and no order: a bad image ends the run, whenever it is found, and before
the end of the first epoch, which waits for the check.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from detect.data.validate import check_images, tell_notes
from detect.data.workers import ready_to_fork
from detect.errors import UserError
from detect.utils.interrupt import follow_parent
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.training.dist import Ranks

LEAST = 10_000  # images of a set; fewer are checked in less than a minute, before the first step
_EVERY = 2.0  # seconds between two counts that are sent


def is_beside(config: TrainConfig, annotations: Annotations) -> bool:
    """Whether the images of a set are decoded beside the first epoch rather than before it.

    Args:
        config: with --check-first, and with --skip-bad, which leaves images out, all are decoded before.
        annotations: the set.
    """
    first = config.check_first or config.skip_bad or config.find_lr
    return not first and annotations.dims == 2 and len(annotations) >= LEAST


class ImageCheck:
    """Decodes every image of some sets.

    Args:
        sets: the sets.
        ranks: the first process of each machine checks; in the others there is nothing to be found.
    """

    def __init__(self, sets: Sequence[Annotations], ranks: Ranks) -> None:
        self.sets, self.main = list(sets), ranks.main
        self.total, self.done = sum(map(len, self.sets)), 0
        self.process: Any = None
        if ranks.local == 0:
            context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
            self.receiver, sender = context.Pipe(duplex=False)
            self.process = context.Process(target=_check, args=(self.sets, sender), daemon=True)
            with ready_to_fork():
                self.process.start()
            sender.close()

    def pending(self) -> bool:
        """Whether images are left.

        Raises:
            UserError: an image cannot be used, or the process was killed.
        """
        while self.process is not None and self.receiver.poll():
            try:
                kind, value = self.receiver.recv()
            except EOFError:
                self.close()
                ended = "the process that decodes all images has ended; memory may have run out"
                raise UserError(f"{ended}: a run goes on with --resume") from None
            if kind == "done":
                self.done = value
                continue
            self.close()
            if kind == "bad":
                remedy = "fix it and go on with --resume, or start again, with another --out and --skip-bad"
                raise UserError(f"{value}; {remedy}")
            if self.main:
                notes = zip(self.sets, value, strict=True)
                tell_notes(*(replace(one, notes=[("unfinished", line) for line in lines]) for one, lines in notes))
        return self.process is not None

    def close(self) -> None:
        """End the check."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.receiver.close()
            self.process = None


def start_check(config: TrainConfig, sets: Sequence[Annotations], begun: bool, ranks: Ranks) -> ImageCheck | None:
    """Start the check of those sets that are checked beside the first epoch; None where there are none.

    Args:
        config: the settings.
        sets: the training and the validation set.
        begun: whether the first epoch has ended, and the check with it, before the run was resumed.
        ranks: this process among those of the run.
    """
    roots = set[tuple[Path, int]]()  # the training set may be the validation set
    large: list[Annotations] = []
    for one in sets:
        if is_beside(config, one) and (one.path, len(one)) not in roots:
            large.append(one)
            roots.add((one.path, len(one)))
    if begun or not large:
        return None
    if ranks.main:
        count = sum(map(len, large))
        say(
            f"{count:,} images are decoded beside the first epoch: a bad one ends the run (see --check-first)",
            sys.stderr,
        )
    return ImageCheck(large, ranks)


def _check(sets: Sequence[Annotations], sender: Connection) -> None:
    """Decode all images of the sets, in a process of its own, and send what comes of it."""
    follow_parent()
    if hasattr(os, "nice"):
        os.nice(10)
    cv2.setNumThreads(0)
    sent, done, odd = time.monotonic(), 0, list[list[str]]()
    for one in sets:
        odd.append([])
        for found in check_images(one, workers=max(1, (os.cpu_count() or 1) // 2), shown=False):
            if found.problem:
                sender.send(("bad", found.problem))
                return
            if found.oddity:
                odd[-1].append(found.oddity)
            done += 1
            if time.monotonic() - sent > _EVERY:
                sent = time.monotonic()
                sender.send(("done", done))
    sender.send(("end", odd))
