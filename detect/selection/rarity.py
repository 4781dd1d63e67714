"""Predicted objects of classes that have few labels yet."""

from __future__ import annotations

import numpy as np

from detect.registry import register
from detect.selection.base import Criterion
from detect.selection.pool import Pool


@register("criterion", "rarity")
class Rarity(Criterion):
    """The scores of predicted objects, weighted by the inverse frequency of their classes.

    Frequencies are those of the labelled images; without such, those of the predictions themselves.
    """

    def __init__(self, pool: Pool) -> None:
        self.found = [pool.objects(i).scores for i in range(len(pool))]
        if pool.labelled is None:
            self.counts = sum((scores.sum(0) for scores in self.found), np.zeros(len(pool.classes)))
        else:
            self.counts = pool.labelled.counts
        self.weights = rarity_weights(self.counts)
        super().__init__(pool)

    def value(self, image: int) -> float:
        """The weighted scores of the objects."""
        return self.pool.of_image(self.found[image] @ self.weights)

    def reason(self, image: int) -> str:
        """The class that contributes most, and how often it was labelled."""
        if not len(self.found[image]):
            return f"rarity {self.values[image]:.2f}: nothing is predicted"
        parts = self.found[image].sum(0) * self.weights
        label = int(parts.argmax())
        how = "labelled" if self.pool.labelled else "predicted"
        seen = f"{self.pool.classes[label]}, {how} {self.counts[label]:.0f} times (mean {self.counts.mean():.0f})"
        return f"rarity {self.values[image]:.2f}: mostly {seen}"


def rarity_weights(counts: np.ndarray) -> np.ndarray:
    """The weight of each class (C,): 1 for one with the mean count, inversely proportional to its count plus 1."""
    weights: np.ndarray = (counts.mean() + 1) / (counts + 1)
    return weights
