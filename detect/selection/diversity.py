"""Images unlike all that are labelled or chosen: greedy k-center on the model's features (Sener & Savarese, 2018).

Axes: I unlabelled images, L labelled images, D features.
"""

from __future__ import annotations

import numpy as np

from detect.registry import register
from detect.selection.base import Criterion
from detect.selection.pool import Pool


@register("criterion", "diversity")
class Diversity(Criterion):
    """The distance of an image to the nearest labelled or chosen one; before there is any, nearness to the mean image.

    Alone it is the greedy algorithm of Sener & Savarese (1708.00489), whose largest distance is at most twice the least
    that so many images can have.
    """

    features = True

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.nearest = [""] * len(pool)
        self.values = np.full(len(pool), np.inf)
        if pool.labelled is not None and len(pool.labelled.names):
            for name, vector in zip(pool.labelled.names, pool.labelled.features, strict=True):
                self._approach(name, vector)
        self.begun = bool(np.isfinite(self.values).all())
        if not self.begun and len(pool):
            away = distances(pool.features, pool.features.mean(0))
            self.values = away.max() - away

    def choose(self, image: int) -> None:
        """Shorten the distances to that of the image, where it is nearer."""
        if not self.begun:
            self.values, self.begun = np.full(len(self.pool), np.inf), True
        self._approach(self.pool.names[image], self.pool.features[image])

    def reason(self, image: int) -> str:
        """The distance, and the nearest image."""
        if not self.begun:
            return f"diversity {self.values[image]:.2f}: no image is labelled or chosen yet, and this is a typical one"
        return f"diversity {self.values[image]:.2f}: distance of its features to the nearest, {self.nearest[image]}"

    def shares(self) -> np.ndarray:
        """The distances over the largest one."""
        shares: np.ndarray = self.values / max(float(self.values.max(initial=0)), 1e-12)
        return shares

    def _approach(self, name: str, vector: np.ndarray) -> None:
        away = distances(self.pool.features, vector)
        for i in np.flatnonzero(away < self.values).tolist():
            self.nearest[i] = name
        self.values = np.minimum(self.values, away)


def distances(features: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The Euclidean distances (I,) of features (I, D) to one vector (D,)."""
    away: np.ndarray = np.linalg.norm(features - vector, axis=1)
    return away
