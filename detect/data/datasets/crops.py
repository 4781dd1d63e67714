"""Crops: parts of images that show one object each, for classifiers, embedders and landmarkers.

A crop is a box of the dataset. What the network sees of it is its window: the box with a margin, made square as far as
the image goes, so that a neighbour's pixels rather than grey fill it; with `Preprocess.stretch` the box's own
rectangle, warped. The window is then letterboxed as any image is. A box as large as its image has the image for a
window.

Axes: N crops, C classes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from detect.config.augment import AugmentConfig
from detect.data import sampling
from detect.data.annotations import known_sizes
from detect.data.augment.stylized import StylizedCopies
from detect.data.augment.transforms import Augmenter, ImageTarget, letterboxed, single
from detect.data.datasets.base import TrainDataset
from detect.data.image_cache import ScaledImages
from detect.data.letterbox import Letterbox
from detect.data.rng import SampleKey, Stream, generator, shuffled
from detect.errors import UserError
from detect.types import Preprocess, Target
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

MARGIN = 0.1  # of the longer side, on each side: boxes are tight, and a little of what is around helps


@dataclass(frozen=True, eq=False)
class Crops:
    """Boxes of a dataset, each a sample of its own.

    images (N,) int64 indices into the annotations; boxes (N, 4) float64 xyxy in pixels; labels (N,) int64; ids (N,)
    int64.
    """

    annotations: Annotations
    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    @staticmethod
    def of(annotations: Annotations) -> Crops:
        """Make a crop of every box of a dataset that is no crowd region; its id is that of the annotation."""
        rows = np.flatnonzero(~annotations.crowd)
        owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
        boxes = annotations.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        return Crops(annotations, owner[rows], boxes, annotations.labels[rows], annotations.ids[rows])

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """Class names by label."""
        return self.annotations.names

    @property
    def path(self) -> Path:
        """The annotation file, for messages."""
        return self.annotations.path

    @cached_property
    def counts(self) -> np.ndarray:
        """(C,) the number of crops of each class."""
        return np.bincount(self.labels, minlength=len(self.names))

    def target(self, index: int, size: tuple[int, int] = (1, 1)) -> Target:
        """Return the target of a crop on a canvas of `size` (h, w): one box, the whole canvas."""
        return Target(
            boxes=torch.tensor([[0.0, 0.0, size[1], size[0]]]),
            labels=torch.from_numpy(self.labels[index : index + 1]),
            crowd=torch.zeros(1, dtype=torch.bool),
            image_id=int(self.ids[index]),
            size=size,
        )

    def windows(self, stretch: bool = False) -> np.ndarray:
        """Return (N, 4) int64 xyxy what the network sees of each image. UserError: a box outside its image."""
        height_width = known_sizes(self.annotations)[self.images]
        room = np.concatenate([height_width, height_width], axis=1)[:, [1, 0, 3, 2]]
        outside = (self.boxes[:, :2] >= room[:, :2]).any(axis=1) | (self.boxes[:, 2:] <= 0).any(axis=1)
        if outside.any():
            name = self.annotations.file_name(int(self.images[outside][0]))
            raise UserError(f"{self.path}: annotation id {self.ids[outside][0]} lies outside its image {name}")
        return views(self.boxes, room, stretch)


def views(boxes: np.ndarray, room: np.ndarray, stretch: bool = False) -> np.ndarray:
    """Return (N, 4) int64 xyxy what is cut out for boxes (N, 4) of images of width, height, twice: `room` (N, 4).

    That is the box with its margin, made square unless it will be stretched, as far as the image goes.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0)
    half = ((sides if stretch else longer) + 2 * MARGIN * longer) / 2
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    low, high = np.floor(middle - half), np.ceil(middle + half)
    return np.concatenate([low, high], axis=1).clip(0, room).astype(np.int64)


class CropDataset(TrainDataset):
    """Training samples of crops: (image (size, size, 3) uint8 RGB, Target).

    Augmentation is that of a single image (zoom, shift, warp, crop, transforms, colour, mirror); mosaic and mixup,
    which join objects, do not apply.

    Args:
        crops: what to show.
        size: the longest side of windows in the cache, in pixels; the canvas is as large as the SampleKey says.
        augment: None: a sample is the plain square letterbox.
        seed: the seed of the run.
        preprocess: padding, alignment and stretching are read.
        cache_gb: the most memory for decoded windows.
        balanced: draw each class equally often (see `sampling.balanced`).

    Raises:
        UserError: there are no crops, or one does not lie in its image.
    """

    def __init__(
        self,
        crops: Crops,
        size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 16.0,
        balanced: bool = False,
    ) -> None:
        if not len(crops):
            raise UserError(f"{crops.path}: there is nothing to classify: it holds no box")
        self.crops, self.config, self.seed, self.preprocess, self.size = crops, augment, seed, preprocess, size
        self.order = sampling.balanced(crops.labels, seed) if balanced else shuffled(len(crops), seed)
        self.canvases = np.full((len(crops), 2), size)  # of each `sample`
        self.windows = crops.windows(preprocess.stretch)
        copies = StylizedCopies(crops.annotations, augment, seed) if augment and augment.stylized else None
        self.images = ScaledImages(crops.annotations, size, preprocess.stretch, crops.images, self.windows, copies)
        self.cache = self.images.cache(cache_gb)
        self.augment = self._augmenter(augment) if augment else None

    @property
    def annotations(self) -> Annotations:
        """The dataset that the crops are of."""
        return self.crops.annotations

    def fetch_ahead(self, keys: list[SampleKey]) -> None:
        """Begin to fetch the images of a batch, where they lie in an object store."""
        rows = (self.index(key.epoch, key.position) for key in keys)
        self.annotations.fetch_ahead(int(self.crops.images[row]) for row in rows)

    def _augmenter(self, config: AugmentConfig) -> Augmenter:
        return Augmenter(config, self.preprocess)

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, Target]:
        index = self.index(key.epoch, key.position)
        tile = ImageTarget(self.window(index, key.epoch), self.window_target(index))
        if self.augment is None:
            image, target = letterboxed(tile, key.size, self.preprocess)
            return image, self.final_target(index, target)
        rng = generator(Stream.SAMPLE, self.seed, key.epoch, key.position)
        image, target = single(tile, key.size, self.augment.config, rng, self.preprocess.pad)
        image, target = self.augment(image, target, key.size, rng)
        return image, self.final_target(index, target)

    def window_target(self, index: int) -> Target:
        """Return the target of a crop in pixels of its window as cached: one box, the whole window."""
        height, width = self.images.sides[index].tolist()
        return self.crops.target(index, (height, width))

    def final_target(self, index: int, moved: Target) -> Target:
        """Return the target of an augmented sample, given its `window_target` as it was moved: the class anywhere."""
        return self.crops.target(index, moved.size)

    def sample(self, index: int) -> tuple[np.ndarray, Target, Letterbox]:
        """Return the crop on its canvas (size, size, 3), as a Predictor would letterbox its window."""
        fit = self._fit(index, self.size)
        return fit.apply(self.window(index)), self.crops.target(index, fit.canvas), fit

    def window(self, index: int, epoch: int | None = None) -> np.ndarray:
        """Return the window of a crop (h, w, 3), scaled as cached; in an `epoch` perhaps of the stylized copy.

        It is to be read only.
        """
        return self.cache.get(self.images.number(index, epoch), self.images.read)

    def _fit(self, index: int, size: int) -> Letterbox:
        height, width = self.images.sides[index].tolist()
        return Letterbox.fit((height, width), size, self.preprocess, square=True)


def require_classes(annotations: Annotations, validation: Annotations) -> None:
    """Raises UserError for a single class, or where training and validation set share none."""
    counts, others = Crops.of(annotations).counts, Crops.of(validation).counts
    if (counts > 0).sum() < 2:
        raise UserError(f"{annotations.path}: a classifier needs images of at least two classes")
    if not (counts * others).any():
        raise UserError(
            f"{validation.path}: no validation image is of a class trained on: split by image, not by class"
        )
    lost = [annotations.names[i] for i in np.flatnonzero((counts == 0) & (others > 0))]
    if lost:
        say(f"classes without a training image, which cannot be learned: {', '.join(lost)}", sys.stderr)
