"""Training samples of tasks that learn from outlines: masks, oriented boxes, label maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.data.augment.transforms import ImageTarget
from detect.data.datasets.detection import CocoDataset
from detect.data.rng import SampleKey
from detect.errors import UserError
from detect.types import Target

if TYPE_CHECKING:
    from detect.data.annotations import Annotations


class OutlinedDataset(CocoDataset):
    """CocoDataset whose targets also have what `finish` makes of the outlines of their objects.

    Outlines are augmented with their pixels, and boxes are those of what is seen of them. RLEs are traced once, here.

    Args:
        finish: takes the augmented target with `outlines` and returns it without: see `augment.finish`.
        annotations: the dataset, in which every object has an outline (see `Task.outlines`).
        args: see CocoDataset.
    """

    def __init__(self, finish: Callable[[Target], Target], annotations: Annotations, *args: Any) -> None:
        assert annotations.outlines is not None
        self.finish, self.outlines = finish, replace(annotations.outlines.as_rings(), frames=None)
        super().__init__(replace(annotations, outlines=None), *args)

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, Target]:
        image, target = super().__getitem__(key)
        return image, self.finish(target)

    @property
    def canvases(self) -> np.ndarray:
        """Raises UserError: features are kept with boxes alone."""
        raise UserError("--cache-features keeps boxes and keypoints beside the features, no masks or oriented boxes")

    def _read(self, index: int, epoch: int | None = None) -> ImageTarget:
        image, target = super()._read(index, epoch)
        start, end = self.annotations.starts[index : index + 2].tolist()
        return ImageTarget(image, replace(target, outlines=self.outlines[start:end]))
