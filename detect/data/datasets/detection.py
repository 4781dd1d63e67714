"""From the annotation store to one augmented training sample.

Every draw is a function of (seed, epoch, position in the epoch's order) alone: not of workers, batches or ranks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torch.utils.data import Dataset

from detect.config.train import AugmentConfig
from detect.data.annotations import known_sizes
from detect.data.augment.transforms import (
    ImageTarget,
    Placement,
    jitter,
    merge,
    mirror,
    mirror_swap,
    mosaic,
    pipeline,
    place,
    single,
)
from detect.data.image_cache import ImageCache
from detect.data.images import resize
from detect.data.letterbox import Letterbox
from detect.data.rng import SampleKey, Stream, generator, order
from detect.errors import UserError
from detect.types import Preprocess, Target

if TYPE_CHECKING:
    from detect.data.annotations import Annotations
    from detect.data.sampling import Repeated


def first_plain_epoch(augment: AugmentConfig, epochs: int | None) -> int | None:
    """The epoch from which mosaic and mixup are off: `mosaic_off` before the end.

    A run of no more epochs than that keeps mosaic for five sixths of them, rather than never using it.
    """
    if epochs is None:
        return None
    off = augment.mosaic_off if epochs > augment.mosaic_off else epochs // 6
    return epochs - off


class CocoDataset(Dataset):
    """Training samples of a store: (image (size, size, 3) uint8 RGB, Target in its pixels), asked for by a SampleKey.

    `size` is the largest side that is kept of a picture (it is scaled down to it once, then cached; see ImageCache);
    the canvas is the SampleKey's. Without `augment` a sample is the plain square letterbox; with `repeated` some images
    come more than once an epoch. UserError: an empty store, or mirroring of keypoints whose sides nobody named.
    """

    def __init__(
        self,
        store: Annotations,
        size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        epochs: int | None = None,
        pixels: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 16.0,
        repeated: Repeated | None = None,
    ) -> None:
        if not len(store):
            raise UserError("the training set has no images")
        self.store, self.augment, self.seed, self.pixels = store, augment, seed, pixels
        self.size = size
        self.order = repeated or partial(order, seed, n=len(store))
        self.length = len(repeated) if repeated else len(store)
        self.plain_from = first_plain_epoch(augment, epochs) if augment else None
        self.swap = None
        if augment and augment.flip > 0:
            self.swap = mirror_swap(store.keypoint_names, augment.flip_pairs or store.flip_pairs)
        self.pipeline = pipeline(augment, bool(store.keypoint_names), pixels.pad) if augment else None
        self.sizes = known_sizes(store)
        shrink = np.minimum(1.0, size / self.sizes.max(axis=1, keepdims=True))
        self.kept = np.rint(self.sizes * shrink).astype(np.int64).clip(1)  # (I, 2) height and width in the cache
        if pixels.stretch:  # before it is augmented, as it will be when the model is used
            self.kept = np.full_like(self.kept, size)
        self.copies = None
        if augment and augment.stylized:
            from detect.data.augment.stylized import Copies  # late: few need it

            self.copies = Copies(store, augment, seed)
        self.cache = ImageCache(self.kept if self.copies is None else np.tile(self.kept, (2, 1)), cache_gb)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: SampleKey) -> tuple[np.ndarray, Target]:
        index = int(self.order(draw.epoch)[draw.position])
        if self.augment is None:
            return letterboxed(self._tile(index), draw.size, self.pixels)
        rng = generator(Stream.SAMPLE, self.seed, draw.epoch, draw.position)
        image, target = self._scene(index, draw, rng)
        if self.pipeline is not None:
            image, target = self.pipeline(image, target, rng)
            if target.size != (draw.size, draw.size):  # a crop, say
                image, target = letterboxed(ImageTarget(image, target), draw.size, self.pixels)
        jitter(image, self.augment, rng)
        if rng.random() < self.augment.flip:
            cv2.flip(image, 1, dst=image)
            target = mirror(target, self.swap)
        return image, target

    def index(self, epoch: int, position: int) -> int:
        """Which image comes at that place of an epoch's order."""
        return int(self.order(epoch)[position])

    @property
    def canvases(self) -> np.ndarray:
        """(I, 2) the canvas of each `sample`."""
        return np.full((len(self.store), 2), self.size)

    def sample(self, index: int) -> tuple[np.ndarray, Target]:
        """An image by its index, without augmentation."""
        return letterboxed(self._tile(index), self.size, self.pixels)

    def _scene(self, index: int, draw: SampleKey, rng: np.random.Generator) -> tuple[np.ndarray, Target]:
        """One picture, a mosaic, or two mosaics blended (mixup, 1710.09412; for detection 1902.04103)."""
        config, pad = self.augment, self.pixels.pad
        assert config is not None
        plain = self.plain_from is not None and draw.epoch >= self.plain_from
        if plain or rng.random() >= config.mosaic:
            return single(self._tile(index, draw.epoch), draw.size, config, rng, pad)
        image, target = self._mosaic(index, draw, rng)
        if rng.random() < config.mixup:
            other, more = self._mosaic(int(rng.integers(len(self.sizes))), draw, rng)
            share = rng.beta(32.0, 32.0)
            image = cv2.addWeighted(image, share, other, 1 - share, 0, dst=image)
            target = merge([target, more], target.size)
        return image, target

    def _mosaic(self, index: int, draw: SampleKey, rng: np.random.Generator) -> tuple[np.ndarray, Target]:
        assert self.augment is not None
        chosen = [index, *rng.integers(len(self.sizes), size=3).tolist()]
        tiles = [self._tile(i, draw.epoch) for i in chosen]
        return mosaic(tiles, draw.size, self.augment, rng, self.pixels.pad)

    def _tile(self, index: int, epoch: int | None = None) -> ImageTarget:
        """An image with its truth; of an `epoch`, its stylized copy where that is its turn."""
        target = self.store.target(index)
        height, width = self.sizes[index].tolist()
        if target.size != (height, width):  # the annotations do not say
            target = replace(target, size=(height, width))
        copied = self.copies is not None and self.copies.shown(index, epoch)
        return ImageTarget(self.cache.get(index + copied * len(self.sizes), self._read), target)

    def _read(self, number: int) -> np.ndarray:
        """An image by its index; after all of them come their copies."""
        copied, index = divmod(number, len(self.sizes))
        height, width = self.kept[index].tolist()
        return resize((self.copies if self.copies and copied else self.store).read(index), width, height)


def letterboxed(tile: ImageTarget, side: int, pixels: Preprocess) -> tuple[np.ndarray, Target]:
    """The tile on a plain square canvas, with its truth."""
    fit = Letterbox.fit(tile.image.shape[:2], side, pixels, square=True)
    (height, width), (h, w) = tile.target.size, fit.source
    scale = fit.scale[0] * w / width, fit.scale[1] * h / height
    view = (fit.left, fit.top, fit.left + fit.inner[1], fit.top + fit.inner[0])
    move = Placement(scale, (fit.left, fit.top), view)
    return fit.apply(tile.image), place([tile.target], [move], 0.0, fit.canvas)
