"""Training samples of embedders: P identities with K images each in a batch, so that it has pairs of both kinds."""

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
    """CropDataset whose batches each show `batch` / K identities K times, where K is `images_per_identity`.

    An epoch has as many samples as there are images, rounded up to whole batches.

    Raises:
        UserError: `batch` is no multiple of K, or less than twice it; there are too few identities.
    """

    def __init__(self, crops: Crops, *args: Any, batch: int, images_per_identity: int, **options: Any) -> None:
        super().__init__(crops, *args, **options)
        each = images_per_identity
        identities = int((crops.counts > 0).sum())
        if batch % each or batch < 2 * each:
            raise UserError(
                f"--batch {batch} is no multiple of --images-per-identity {each}, at least twice it: take "
                f"--batch {each * max(2, batch // each)}"
            )
        if identities * each < batch:
            raise UserError(
                f"{crops.path} has {identities} identities, and a batch of {batch} needs {batch // each}: take "
                f"--batch {identities * each} at most"
            )
        steps = -(-len(crops) // batch)
        draw = partial(grouped, crops.labels, steps, batch // each, each)
        self.order = EpochOrder(steps * batch, draw, self.seed)


def require_pairs(annotations: Annotations) -> np.ndarray:
    """Return (C,) the images of each identity. Raises UserError where no two images show one, or two of them."""
    counts = Crops.of(annotations).counts
    if (counts > 0).sum() < 2 or not (counts > 1).any():
        raise UserError(
            f"{annotations.path}: embeddings need two identities or more, one of them with two images or more"
        )
    return counts


def require_identities(annotations: Annotations, validation: Annotations) -> None:
    """Raises UserError where a set has a single identity, or no identity with two images.

    Tells of identities with one image, from which only negative pairs can be made.
    """
    for one in (annotations, validation):
        counts = require_pairs(one)
        if alone := [one.names[i] for i in np.flatnonzero(counts == 1)]:
            shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
            say(f"{one.path}: {len(alone)} identities with one image, which make no pair: {shown}", sys.stderr)
    both = (Crops.of(annotations).counts > 0) & (Crops.of(validation).counts > 0)
    if both.any():
        say(
            f"{validation.path}: {int(both.sum())} identities of the validation set are also in the training set",
            sys.stderr,
        )
