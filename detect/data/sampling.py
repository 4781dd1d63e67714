"""Which images come more than once in an epoch, so that rare classes are seen."""

from __future__ import annotations

import numpy as np

from detect.data.annotations import Annotations
from detect.data.rng import Stream, generator


def repeat_factors(store: Annotations, threshold: float) -> np.ndarray:
    """(I,) how often each image comes in an epoch, at least 1 (repeat-factor sampling, Gupta et al., 2019, LVIS).

    A class that is in the share f of the images wants max(1, sqrt(threshold / f)); an image comes as often as the most
    wanting of its classes does, one without objects once. Crowd regions do not count.
    """
    factors = np.ones(len(store))
    image = np.repeat(np.arange(len(store)), np.diff(store.starts))[~store.crowd]
    pairs = np.unique(np.stack([image, store.labels[~store.crowd]], axis=1), axis=0)
    share = np.bincount(pairs[:, 1], minlength=len(store.names)) / max(1, len(store))
    wanted = np.sqrt(threshold / np.where(share > 0, share, 1)).clip(1)
    np.maximum.at(factors, pairs[:, 0], wanted[pairs[:, 1]])
    return factors


class Repeated:
    """The order of each epoch when image i comes factors[i] times on average: a function of (seed, epoch) alone.

    Every epoch has the same length, the sum of the factors, rounded. Between two whole numbers a factor is met by
    chance, by systematic sampling: each image comes the lower or the upper number of times.
    """

    def __init__(self, factors: np.ndarray, seed: int) -> None:
        self.length = round(float(factors.sum()))
        self.factors, self.seed = factors * (self.length / max(factors.sum(), 1e-12)), seed
        self.drawn: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.length

    def __call__(self, epoch: int) -> np.ndarray:
        """Indices of images (L,) in the order of an epoch. Read only."""
        if self.drawn[0] != epoch:
            rng = generator(Stream.ORDER, self.seed, epoch)
            images = rng.permutation(len(self.factors))
            ends = np.cumsum(self.factors[images])
            ticks = np.arange(self.length) + rng.random()
            chosen = images[np.searchsorted(ends, ticks, side="right").clip(max=len(images) - 1)]
            self.drawn = (epoch, rng.permutation(chosen))
        return self.drawn[1]
