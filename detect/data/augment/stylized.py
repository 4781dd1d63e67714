"""Stylized copies of training images, shown instead of the images in a share of the samples."""

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
    """The copies of a dataset's images that `detect stylize` made, under the same names and of the same sizes.

    Raises UserError for a folder that has no copy of any; of how many images it has none is said.
    """

    def __init__(self, annotations: Annotations, augment: AugmentConfig, seed: int) -> None:
        folder = augment.stylized
        self.annotations, self.folder, self.share, self.seed = annotations, Path(folder), augment.stylized_share, seed
        self.there = np.array([(self.folder / annotations.file_name(i)).is_file() for i in range(len(annotations))])
        if not self.there.any():
            raise UserError(f"{folder} has no copy of any image of {annotations.path}: make them with detect stylize")
        if missing := int((~self.there).sum()):
            say(f"{folder}: {missing} of {len(annotations)} images have no copy and stay as they are", file=sys.stderr)

    def shown(self, index: int, epoch: int | None) -> bool:
        """Whether the copy of image `index` is shown in an epoch; never for None."""
        if epoch is None or not self.there[index]:
            return False
        return float(generator(Stream.STYLE, self.seed, epoch, index).random()) < self.share

    def read(self, index: int) -> np.ndarray:
        """Return the copy of image `index` (H, W, 3) uint8 RGB. Raises UserError where it is of another size."""
        return read_image(self.folder / self.annotations.file_name(index), self.annotations.size(index))
