"""The entropy of predictions: how little the model knows of the objects that it detects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detect.registry import register
from detect.selection.base import Criterion
from detect.selection.pool import Objects

UNSURE = (0.2, 0.8)  # scores that the reason counts as neither


@register("criterion", "uncertainty")
class Uncertainty(Criterion):
    """The entropy of the objects of an image, in nats."""

    def value(self, image: int) -> float:
        """See `entropies`."""
        return self.pool.of_image(entropies(self.pool.objects(image)))

    def reason(self, image: int) -> str:
        """How many objects are neither clear nor faint, and the one with the highest entropy."""
        return f"entropy {self.values[image]:.2f}: {unsure_text(self.pool.objects(image), self.pool.classes)}"


def unsure_text(found: Objects, classes: Sequence[str]) -> str:
    """What the model is unsure of: "4 of 9 predictions score 0.2 to 0.8, the least certain is king at 0.51"."""
    if not len(found.best):
        return "nothing is predicted"
    worst = found.scores[int(np.argmax(entropies(found)))]
    first, *others = np.argsort(-worst, kind="stable")[:2].tolist()
    told = f"{classes[first]} at {worst[first]:.2f}"
    if others and worst[others[0]] > UNSURE[0] / 2:
        told += f" or {classes[others[0]]} at {worst[others[0]]:.2f}"
    if found.exclusive:
        return told
    top = found.scores.max(1)
    unsure = int(((top >= UNSURE[0]) & (top <= UNSURE[1])).sum())
    return f"{unsure} of {len(top)} predictions score {UNSURE[0]} to {UNSURE[1]}, the least certain is {told}"


def entropies(found: Objects) -> np.ndarray:
    """The entropy (M,) of each object: of its distribution over classes where they exclude one another, else the sum of
    those of its classes, each of which is there or not (Settles, 2009, section 3.1)."""
    p = np.clip(found.scores, 0.0, 1.0)
    each = _plogp(p) if found.exclusive else _plogp(p) + _plogp(1 - p)
    total: np.ndarray = -each.sum(1)
    return total


def _plogp(p: np.ndarray) -> np.ndarray:
    values: np.ndarray = p * np.log(np.maximum(p, 1e-12))
    return values
