"""Random streams, the orders of epochs and their batches.

Every draw of training is a function of (seed, epoch, position in the epoch's order) alone.

It depends neither on the number of workers, nor on the batch size, nor on the rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import numpy as np

from detect.errors import UserError


class Stream(IntEnum):
    """The independent streams of random numbers; the first word of a generator's key."""

    ORDER = 1
    SAMPLE = 2
    SIZE = 3
    COPY = 4
    STYLE = 5
    UNLABELLED = 6


class SampleKey(NamedTuple):
    """What a training loader asks a dataset for.

    Attributes:
        epoch: the epoch, from 0.
        position: the position in the epoch's order, from 0.
        size: the side of the square canvas in pixels.
    """

    epoch: int
    position: int
    size: int


def generator(stream: Stream, *key: int) -> np.random.Generator:
    """Return the generator (PCG64) of one stream and key; the same wherever it is made."""
    return np.random.default_rng([int(stream), *(k % 2**64 for k in key)])


class EpochOrder:
    """The order in which the samples of each epoch come: a function of (seed, epoch) alone.

    Args:
        length: the number of samples in an epoch.
        draw: makes the indices (length,) of an epoch's samples with the epoch's generator.
        seed: the seed of the run.
    """

    def __init__(self, length: int, draw: Callable[[np.random.Generator], np.ndarray], seed: int) -> None:
        self.length, self.draw, self.seed = length, draw, seed
        self._latest: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.length

    def __call__(self, epoch: int) -> np.ndarray:
        """Return the indices (length,) of the samples in the order of `epoch`. They are read-only."""
        if self._latest[0] != epoch:
            indices = self.draw(generator(Stream.ORDER, self.seed, epoch))
            indices.flags.writeable = False
            self._latest = (epoch, indices)
        return self._latest[1]


def shuffled(length: int, seed: int) -> EpochOrder:
    """Return the order in which every sample comes once, at a random position."""
    return EpochOrder(length, partial(_permutation, length), seed)


def _permutation(length: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(length)


def batches(n: int, batch: int, rank: int = 0, world: int = 1, shared: int = 0) -> list[np.ndarray]:
    """Cut the positions 0..n-1 of an epoch into steps of nearly `batch` for each of `world` ranks; return this rank's.

    Nothing is dropped and no step is tiny: 17 images in batches of 8 make 6, 6 and 5. A rank may get one more than
    `batch` where it would otherwise get none in some step. With `shared`, a step of all ranks has nearly that many,
    whatever their number. UserError: fewer images than ranks, or a smaller `shared`.
    """
    if 0 < shared < world:
        raise UserError(f"--global-batch {shared} cannot be shared among {world} processes: take at least {world}")
    if n < world:
        raise UserError(f"{n} images cannot be shared among {world} processes: start at most {n}")
    steps = max(1, min(-(-n // (shared or batch * world)), n // world))
    return [part[rank::world] for part in np.array_split(np.arange(n), steps)] if n else []


class BatchPlan:
    """The sample keys of each batch of an epoch, from batch `start` on; the loader iterates it in the main process.

    It must not refer to the loader: a loader in a reference cycle waits 5 seconds for each worker when it is freed.

    Args:
        parts: the positions in the epoch's order of each batch.
        size: the side of images in pixels.
        multi_scale: draw the side of each batch from the multiples of 32 in [1 - m, 1 + m] times `size`; 0: never.
        seed: the seed of the run.
        epoch: the epoch; the loader sets it, and `start`, before it iterates.
    """

    def __init__(self, parts: list[np.ndarray], size: int, multi_scale: float, seed: int, epoch: int = 0) -> None:
        self.parts, self.size, self.multi_scale, self.seed = parts, size, multi_scale, seed
        self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        low = max(1, int(-(-self.size * (1 - self.multi_scale) // 32)))
        high = max(1, int(self.size * (1 + self.multi_scale) // 32))
        for step, part in enumerate(self.parts[self.start :], self.start):
            size = self.size
            if self.multi_scale:  # one draw for all ranks: every rank has as many steps
                rng = generator(Stream.SIZE, self.seed, self.epoch * len(self.parts) + step)
                size = 32 * int(rng.integers(low, high, endpoint=True))
            yield [SampleKey(self.epoch, int(position), size) for position in part]
