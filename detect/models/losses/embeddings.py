"""Losses of vectors of length one, near for images of one identity.

Axes: B images of a batch, D numbers of a vector. `same` (B, B) marks the pairs of one identity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.types import LossTerm

FAR = 8.0  # above any squared distance between vectors of length one, which is at most 4


def squared_distances(vectors: Tensor) -> Tensor:
    """Squared Euclidean distance of every pair of vectors (B, D) of length one, (B, B) in 0..4."""
    return (2 - 2 * vectors @ vectors.T).clamp(min=0)


def same_person(labels: Tensor) -> Tensor:
    """Which pairs of images with labels (B,) are of one identity, (B, B)."""
    return labels[:, None] == labels


def random(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Every anchor and positive with a random negative: distances of positives and negatives (T,)."""
    anchor, positive = _positives(same)
    if not len(anchor):
        return distances.new_zeros(0), distances.new_zeros(0)
    negative = torch.multinomial((~same)[anchor].float(), 1)[:, 0]
    return distances[anchor, positive], distances[anchor, negative]


def semi_hard(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Every anchor and positive with the nearest negative that is farther than the positive (Schroff et al., 2015).

    If all negatives are nearer, it is the farthest of them: the least hard.
    """
    anchor, positive = _positives(same)
    near, others = distances[anchor, positive], distances[anchor]
    usable = (~same)[anchor]
    beyond = usable & (others > near[:, None])
    nearest = others.masked_fill(~beyond, FAR).amin(1) if len(anchor) else near
    farthest = others.masked_fill(~usable, -FAR).amax(1) if len(anchor) else near
    return near, torch.where(beyond.any(1), nearest, farthest)


def batch_hard(distances: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Every anchor with its farthest positive and its nearest negative (Hermans et al., 2017).

    By distances, not their squares, as there: the gradient of squares vanishes for near vectors, and such hard triplets
    then draw all of them into one place.
    """
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    anchors = others.any(1) & (~same).any(1)
    distances, others, same = distances[anchors], others[anchors], same[anchors]
    if not len(distances):
        return distances.new_zeros(0), distances.new_zeros(0)
    near, far = distances.masked_fill(~others, 0).amax(1), distances.masked_fill(same, FAR).amin(1)
    return near.clamp(min=1e-12).sqrt(), far.clamp(min=1e-12).sqrt()


def _positives(same: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors and positives (T,): all ordered pairs of one identity that have a negative."""
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device) & (~same).any(1, keepdim=True)
    anchor, positive = others.nonzero(as_tuple=True)
    return anchor, positive


MINING: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "random": random,
    "semi_hard": semi_hard,
    "batch_hard": batch_hard,
}


def triplet(vectors: Tensor, labels: Tensor, margin: float, mining: str) -> dict[str, LossTerm]:
    """max(|a - p|^2 - |a - n|^2 + margin, 0) over the triplets that `mining` chooses (Schroff et al., 2015).

    Distances of batch-hard triplets are not squared.
    """
    near, far = MINING[mining](squared_distances(vectors), same_person(labels))
    each = (near - far + margin).clamp(min=0)
    return {"triplet": _term(each, vectors)}


def contrastive(vectors: Tensor, labels: Tensor, margin: float) -> dict[str, LossTerm]:
    """d^2 / 2 over pairs of one identity, max(margin - d, 0)^2 / 2 over the others (Hadsell et al., 2006).

    Each kind of pair has a mean of its own: there are many more of the second.
    """
    first, second, same = _pairs(labels)
    squares = (vectors[first] - vectors[second]).square().sum(1)
    apart = (margin - squares.clamp(min=1e-12).sqrt()).clamp(min=0)
    return {"same": _term(squares[same] / 2, vectors), "different": _term(apart[~same].square() / 2, vectors)}


def siamese(vectors: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> dict[str, LossTerm]:
    """Cross-entropy of a logistic unit on |a - b| that predicts "same" (Taigman et al., 2014; Koch et al., 2015).

    Its logit is bias () - weight (D,) . |a - b|. As in `contrastive` each kind of pair has a mean of its own.
    """
    first, second, same = _pairs(labels)
    logits = bias - (vectors[first] - vectors[second]).abs() @ weight
    each = binary_cross_entropy_with_logits(logits, same.to(logits.dtype), reduction="none")
    unit = torch.cat([weight, bias[None]])
    return {"same": _term(each[same], vectors, unit), "different": _term(each[~same], vectors, unit)}


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair once: first and second (P,), and whether both have one identity (P,)."""
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    return first, second, labels[first] == labels[second]


def _term(each: Tensor, *parts: Tensor) -> LossTerm:
    """The sum and number of losses; an empty sum still has a gradient, zero, for all `parts`."""
    total = each.sum() + sum((0.0 * part).sum() for part in parts)
    return LossTerm(total, torch.tensor(float(len(each)), device=each.device))
