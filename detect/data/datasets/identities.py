"""Batches for embedders: P people with K pictures each, so that there are pairs of one person and of two.

Axes: N pictures, P people of a batch, K pictures of each, B = P * K.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.datasets.crops import CropDataset, Crops
from detect.data.rng import EpochOrder
from detect.data.sampling import grouped
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
        steps = -(-len(crops) // batch)
        draw = partial(grouped, crops.labels, steps, batch // each, each)
        self.order = EpochOrder(steps * batch, draw, self.seed)


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
