"""Random streams: every draw of training is a function of (seed, epoch, position in the epoch's order) alone.

It depends neither on the number of workers, nor on the batch size, nor on the rank.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import numpy as np


class Stream(IntEnum):
    """The independent streams of random numbers; the first word of a generator's key."""

    ORDER = 1
    SAMPLE = 2
    SIZE = 3
    COPY = 4
    STYLE = 5


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
