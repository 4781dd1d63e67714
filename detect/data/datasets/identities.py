"""Batches for embedders: P people with K pictures each, so that there are pairs of one person and of two.

Axes: N pictures, P people of a batch, K pictures of each, B = P * K.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.datasets.crops import CropDataset, Crops
from detect.data.rng import Stream, generator
from detect.errors import UserError
from detect.utils.names import say


class IdentityDataset(CropDataset):
    """CropDataset in an order of which every run of `batch` samples shows `batch` / `each` people, `each` times.

    An epoch is as long as there are pictures, up to whole batches. Raises UserError where `batch` is no multiple of
    `each`, or there are too few people.
    """

    def __init__(self, crops: Crops, *args: Any, batch: int, each: int, **options: Any) -> None:
        super().__init__(crops, *args, **options)
        people = int((crops.counts > 0).sum())
        if batch % each or batch < 2 * each:
            raise UserError(f"--batch {batch} is no multiple, 2 or more, of the {each} pictures of each person in it")
        if people * each < batch:
            raise UserError(
                f"{crops.path} has {people} people, and a batch of {batch} shows {batch // each} with {each} pictures "
                f"each: take --batch {people * each} at most"
            )
        self.batch, self.each = batch, each

    def __len__(self) -> int:
        return -(-len(self.crops) // self.batch) * self.batch

    def index(self, epoch: int, position: int) -> int:
        """Which picture comes at that place of an epoch's order."""
        if self.drawn[0] != epoch:
            self.drawn = (epoch, self._order(epoch))
        return int(self.drawn[1][position])

    def _order(self, epoch: int) -> np.ndarray:
        """Indices of pictures in the order of an epoch, a function of (seed, epoch)."""
        rng = generator(Stream.ORDER, self.seed, epoch)
        return grouped_order(self.crops.labels, len(self) // self.batch, self.batch // self.each, self.each, rng)


def grouped_order(labels: np.ndarray, batches: int, people: int, each: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (batches * people * each) into `labels` (N,): each batch has `each` pictures of `people` labels.

    Labels take turns, and so do the pictures of each; fewer than `each` pictures are repeated. In a batch all people
    come once, then all once more: of any two processes that share it by turns both get pictures of one person.
    """
    members = {label: np.flatnonzero(labels == label).tolist() for label in np.unique(labels).tolist()}
    turns: list[int] = []
    waiting: dict[int, list[int]] = {label: [] for label in members}
    chosen = []
    for _ in range(batches):
        now = _next(turns, list(members), people, rng)
        chosen.append(np.array([_next(waiting[label], members[label], each, rng) for label in now]).T.ravel())
    return np.concatenate(chosen)


def _next(waiting: list[int], everyone: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """The next `count` of those who wait, and they wait no more; `everyone` comes again before any are too few."""
    while len(waiting) < count:
        fresh = rng.permutation(everyone).tolist()
        waiting += [one for one in fresh if one not in waiting] + [one for one in fresh if one in waiting]
    taken, waiting[:] = waiting[:count], waiting[count:]
    return taken


def require_pairs(store: Annotations) -> np.ndarray:
    """The pictures of each person. Raises UserError where there is no pair of one person, or none of two."""
    counts = Crops.of(store).counts
    if (counts > 0).sum() < 2 or not (counts > 1).any():
        raise UserError(f"{store.path}: embeddings need two people or more, one of them with two pictures or more")
    return counts


def require_identities(store: Annotations, held_out: Annotations) -> None:
    """Raises UserError where there is nobody to tell apart, or no pair of one person, in either set.

    Tells of people with one picture, of whom nothing can be learned but that they are others.
    """
    for one in (store, held_out):
        counts = require_pairs(one)
        if alone := [one.names[i] for i in np.flatnonzero(counts == 1)]:
            shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
            say(f"{one.path}: {len(alone)} people with one picture, no pair of their own: {shown}", sys.stderr)
    both = (Crops.of(store).counts > 0) & (Crops.of(held_out).counts > 0)
    if both.any():
        say(f"{held_out.path}: {int(both.sum())} people held out are in the training set as well", sys.stderr)
