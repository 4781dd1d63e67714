"""Training samples of detectors: augmented images, alone, as mosaics or mixed up.

Every draw is a function of (seed, epoch, position in the epoch's order) alone: not of workers, batches or ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from detect.config.augment import AugmentConfig
from detect.data.annotations import with_known_sizes
from detect.data.augment.stylized import StylizedCopies
from detect.data.augment.transforms import Augmenter, ImageTarget, letterboxed, merge, mosaic, single
from detect.data.datasets.base import TrainDataset
from detect.data.image_cache import ScaledImages
from detect.data.rng import EpochOrder, SampleKey, Stream, generator, shuffled
from detect.errors import UserError
from detect.types import Preprocess, Target

if TYPE_CHECKING:
    from detect.data.annotations import Annotations


def first_plain_epoch(augment: AugmentConfig, epochs: int | None) -> int | None:
    """Return the epoch from which mosaic and mixup are off: `mosaic_off` before the end.

    A run of no more epochs than that keeps mosaic for five sixths of them, rather than never using it.
    """
    if epochs is None:
        return None
    off = augment.mosaic_off if epochs > augment.mosaic_off else epochs // 6
    return epochs - off


class CocoDataset(TrainDataset):
    """Training samples of images with boxes: (image (size, size, 3) uint8 RGB, Target in its pixels).

    Args:
        annotations: the dataset.
        size: the longest side of images in the cache, in pixels; the canvas is as large as the SampleKey says.
        augment: None: a sample is the plain square letterbox.
        seed: the seed of the run.
        epochs: the length of the run, at whose end mosaic is off; None: it stays on.
        preprocess: padding, alignment and stretching are read.
        cache_gb: the most memory for decoded images.
        order: which images come when; default: each once an epoch, shuffled.

    Raises:
        UserError: there are no images; keypoints are to be mirrored whose pairs are not known.
    """

    def __init__(
        self,
        annotations: Annotations,
        size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        epochs: int | None = None,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 16.0,
        order: EpochOrder | None = None,
    ) -> None:
        if not len(annotations):
            raise UserError("the training set has no images")
        self.seed, self.preprocess, self.size = seed, preprocess, size
        self.order = order or shuffled(len(annotations), seed)
        self.plain_from = first_plain_epoch(augment, epochs) if augment else None
        self.augment = None
        if augment:
            self.augment = Augmenter(augment, preprocess, annotations.keypoint_names, annotations.flip_pairs)
        copies = StylizedCopies(annotations, augment, seed) if augment and augment.stylized else None
        self.images = ScaledImages(annotations, size, preprocess.stretch, copies=copies)
        self.cache = self.images.cache(cache_gb)
        self.annotations = with_known_sizes(annotations)

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, Target]:
        index = int(self.order(key.epoch)[key.position])
        if self.augment is None:
            return letterboxed(self._read(index), key.size, self.preprocess)
        rng = generator(Stream.SAMPLE, self.seed, key.epoch, key.position)
        config, pad, count = self.augment.config, self.preprocess.pad, len(self.images.sides)
        if (self.plain_from is not None and key.epoch >= self.plain_from) or rng.random() >= config.mosaic:
            image, target = single(self._read(index, key.epoch), key.size, config, rng, pad)
            return self.augment(image, target, key.size, rng)
        tiles = [self._read(i, key.epoch) for i in (index, *rng.integers(count, size=3).tolist())]
        image, target = mosaic(tiles, key.size, config, rng, pad)
        if rng.random() < config.mixup:  # two mosaics blended (1710.09412; for detection 1902.04103)
            chosen = [int(rng.integers(count)), *rng.integers(count, size=3).tolist()]
            other, more = mosaic([self._read(i, key.epoch) for i in chosen], key.size, config, rng, pad)
            share = rng.beta(32.0, 32.0)
            image = cv2.addWeighted(image, share, other, 1 - share, 0, dst=image)
            target = merge([target, more], target.size)
        return self.augment(image, target, key.size, rng)

    def fetch_ahead(self, keys: list[SampleKey]) -> None:
        """Begin to fetch the images of a batch, where they lie in an object store, and those of their first mosaics."""
        for key in keys:
            indices = [self.index(key.epoch, key.position)]
            rng = generator(Stream.SAMPLE, self.seed, key.epoch, key.position)
            plain = self.plain_from is not None and key.epoch >= self.plain_from
            if self.augment and not plain and rng.random() < self.augment.config.mosaic:
                indices += rng.integers(len(self.images.sides), size=3).tolist()
            self.annotations.fetch_ahead(indices)

    @property
    def canvases(self) -> np.ndarray:
        """(I, 2) the height and width of each `sample`."""
        return np.full((len(self.annotations), 2), self.size)

    def sample(self, index: int) -> tuple[np.ndarray, Target]:
        """Return an image by its index, without augmentation."""
        return letterboxed(self._read(index), self.size, self.preprocess)

    def _read(self, index: int, epoch: int | None = None) -> ImageTarget:
        """An image with its target; in an `epoch` perhaps its stylized copy."""
        number = index if self.images.copies is None else self.images.number(index, epoch)
        image = self.cache.get(number, self.images.read)
        return ImageTarget(image, self.annotations.target(index))
