"""Random streams: every draw of training is a function of (seed, epoch, position in the epoch's order) alone.

It depends neither on the number of workers, nor on the batch size, nor on the rank.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
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


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation (n,) of the images in an epoch. Read only."""
    result = generator(Stream.ORDER, seed, epoch).permutation(n)
    result.flags.writeable = False
    return result
