"""The margin between the best two answers of the model for an object: another measure of uncertainty."""

from __future__ import annotations

import numpy as np

from detect.registry import register
from detect.selection.base import Criterion
from detect.selection.pool import Objects
from detect.selection.uncertainty import unsure_text


@register("criterion", "margin")
class Margin(Criterion):
    """How near the best answer is to the next one: 1 less the margin of each object."""

    def value(self, image: int) -> float:
        """See `closeness`."""
        return self.pool.of_image(closeness(self.pool.objects(image)))

    def reason(self, image: int) -> str:
        """The objects that the model is unsure of."""
        return f"margin {self.values[image]:.2f}: {unsure_text(self.pool.objects(image), self.pool.classes)}"


def closeness(found: Objects) -> np.ndarray:
    """One less the margin (M,): the difference of the best class and the next one (Scheffer et al., 2001).

    The background is an answer, too, where classes do not exclude one another: its score is 1 less that of the best.
    """
    ordered = np.sort(np.pad(found.scores, ((0, 0), (2, 0))), axis=1)
    best, second = ordered[:, -1], ordered[:, -2]
    if not found.exclusive:
        second = np.maximum(second, 1 - best)
    near: np.ndarray = 1 - np.abs(best - second)
    return near
