"""How much the predictions for an image change when it is mirrored or scaled, which should change nothing.

Axes: N predictions of the image, V of a view.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detect.registry import register
from detect.selection.base import Criterion
from detect.selection.pool import SAME_PLACE, objects_of, overlaps
from detect.types import Classification


class Comparison(NamedTuple):
    """The objects of an image beside those of a view: the loss of each, how many have no partner, the IoU of those that
    have one, and how many of these changed their class."""

    losses: np.ndarray
    unmatched: int
    overlap: np.ndarray
    changed: int


@register("criterion", "disagreement")
class Disagreement(Criterion):
    """The mean loss over the views: objects without a partner in the other, shifted boxes, other classes."""

    views = True

    def value(self, image: int) -> float:
        """The mean over the views of the losses that `compare` gives."""
        return float(np.mean([self.pool.of_image(one.losses) for one in self._compared(image)] or [0.0]))

    def reason(self, image: int) -> str:
        """What changes in the views, all together."""
        compared = self._compared(image)
        said = f"views differ by {self.values[image]:.2f}"
        if isinstance(self.pool.results[image], Classification):
            return f"{said} nats"
        overlap = np.concatenate([one.overlap for one in compared])
        parts = [f"{sum(one.unmatched for one in compared)} predictions without a partner"]
        if len(overlap):
            parts += [f"mean IoU of the others {overlap.mean():.2f}"]
            parts += [f"{sum(one.changed for one in compared)} of another class"]
        return f"{said} in {len(compared)} views: {', '.join(parts)}"

    def _compared(self, image: int) -> list[Comparison]:
        result, classes = self.pool.results[image], len(self.pool.classes)
        return [compare(result, view, classes) for view in self.pool.views[image]]


def compare(result: Any, view: Any, classes: int) -> Comparison:
    """Compare the result for an image with that for a view of it, in pixels of the image.

    Objects are matched by IoU, the best pairs first, whatever their classes. An object without a partner loses its
    score; one with a partner its score times 1 - IoU, and its score once more if the classes differ. Two results of a
    classifier lose the Jensen-Shannon divergence of their distributions (Lin, 1991).
    """
    own, other = objects_of(result, classes), objects_of(view, classes)
    if isinstance(result, Classification):
        divergence = np.array([_divergence(own.scores[0], other.scores[0])])
        return Comparison(divergence, 0, np.zeros(0), int(own.scores.argmax() != other.scores.argmax()))
    a, b = result[own.best], view[other.best]
    pairs = match(overlaps(a, b))
    scores, other_scores = own.scores.max(1, initial=0), other.scores.max(1, initial=0)
    losses, alone = scores.copy(), np.ones(len(other_scores), bool)
    changed = 0
    for i, j, overlap in pairs:
        differs = own.scores[i].argmax() != other.scores[j].argmax()
        losses[i] = scores[i] * (1 - overlap + differs)
        alone[j] = False
        changed += int(differs)
    unmatched = len(losses) + len(alone) - 2 * len(pairs)
    return Comparison(
        np.concatenate([losses, other_scores[alone]]), unmatched, np.array([p[2] for p in pairs]), changed
    )


def match(overlap: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (row, column, IoU) of boxes at one place, by falling IoU (N, V); each box is in one pair at most."""
    rows, columns = np.nonzero(overlap >= SAME_PLACE)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    pairs, taken, other_taken = list[tuple[int, int, float]](), set[int](), set[int]()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in taken and j not in other_taken:
            pairs.append((i, j, float(overlap[i, j])))
            taken.add(i)
            other_taken.add(j)
    return pairs


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two distributions (C,), in nats."""
    middle = (p + q) / 2
    return float(sum((x[x > 0] * np.log(x[x > 0] / middle[x > 0])).sum() for x in (p, q)) / 2)
