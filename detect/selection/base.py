"""What a criterion is: a value for each unlabelled image, and the reason in words."""

from __future__ import annotations

import numpy as np

from detect.selection.pool import Pool


class Criterion:
    """One reason to label an image. `detect next --criteria NAME=WEIGHT` takes a subclass registered as "criterion".

    Args:
        pool: the unlabelled images.
    """

    views = False
    """Whether it reads `Pool.views`."""
    features = False
    """Whether it reads `Pool.features`."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.values = np.array([self.value(i) for i in range(len(pool))], np.float64)

    def value(self, image: int) -> float:
        """The value of an image, the higher the sooner it is labelled."""
        raise NotImplementedError

    def reason(self, image: int) -> str:
        """What the value says, in words and numbers; asked before the image is chosen."""
        raise NotImplementedError

    def choose(self, image: int) -> None:
        """Note that an image was chosen, where this changes the values of others."""

    def shares(self) -> np.ndarray:
        """The values (I,) on a scale from 0 to 1. Default: the share of images with a lower value, ties by half."""
        return lower_shares(self.values)


def lower_shares(values: np.ndarray) -> np.ndarray:
    """For each value (I,) the share of the others that are lower, ties counted by half; 0 where all are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return np.zeros(len(values))
    lower = np.cumsum(counts) - counts
    shares: np.ndarray = ((lower + (counts - 1) / 2) / (len(values) - 1))[place]
    return shares
