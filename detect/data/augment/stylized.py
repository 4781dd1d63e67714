"""Copies of training pictures in another style, drawn in the place of the pictures for a share of the samples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detect.config.augment import AugmentConfig
from detect.data.images import read_image
from detect.data.rng import Stream, generator
from detect.errors import UserError
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

ABOUT = "stylized.json"  # in a folder of copies: how they were made


class StylizedCopies:
    """The pictures of a store, and the copies of them in `folder`, under the same names and of the same sizes.

    Raises UserError for a folder that has no copy of any; of how many pictures it has none is said.
    """

    def __init__(self, store: Annotations, augment: AugmentConfig, seed: int) -> None:
        folder = augment.stylized
        self.store, self.folder, self.share, self.seed = store, Path(folder), augment.stylized_share, seed
        self.there = np.array([(self.folder / store.file_name(i)).is_file() for i in range(len(store))])
        if not self.there.any():
            raise UserError(f"{folder} has no copy of any picture of {store.path}: make them with detect stylize")
        if missing := int((~self.there).sum()):
            say(f"{folder}: {missing} of {len(store)} pictures have no copy and stay as they are", file=sys.stderr)

    def shown(self, index: int, epoch: int | None) -> bool:
        """Whether the copy of picture `index` takes its place in an epoch (None: never)."""
        if epoch is None or not self.there[index]:
            return False
        return float(generator(Stream.STYLE, self.seed, epoch, index).random()) < self.share

    def read(self, index: int) -> np.ndarray:
        """The copy of picture `index` (H, W, 3) uint8 RGB. Raises UserError where it is of another size."""
        return read_image(self.folder / self.store.file_name(index), self.store.size(index))
