"""Training samples of sliding windows: pieces of images around objects, and at random places.

Axes: N objects, I images.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from detect.config.augment import AugmentConfig
from detect.data import sampling
from detect.data.annotations import known_sizes
from detect.data.augment.transforms import Augmenter, ImageTarget, paste
from detect.data.augment.warp import SETTINGS, Warp, random_warp
from detect.data.datasets.base import TrainDataset
from detect.data.datasets.crops import Crops
from detect.data.image_cache import ScaledImages
from detect.data.rng import SampleKey, Stream, generator, shuffled
from detect.errors import UserError
from detect.types import Preprocess, Target
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

ANYWHERE = 3  # pieces at random places for each piece around an object
REACH = 0.6**0.5  # of the smallest window: no window fits a smaller object well enough to show it
STILL = AugmentConfig(scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)


class WindowDataset(TrainDataset):
    """Training samples of sliding windows: (image (side, side, 3) uint8 RGB, Target in its pixels).

    A sample is a square piece of an image, `piece` times as long as a window. An epoch has one piece around every
    object that is no crowd region, placed so that a window in its middle would hold the object, and ANYWHERE times as
    many of random size and place, in images taken in turns, those without objects too. Windows are at least `window`
    pixels long where the longer side of the image is that of the SampleKey. Pieces lie within the image where it is
    large enough; what lies beyond is padded. The target has every object that a piece touches, uncut: the loss decides
    which of its windows shows one. So an image without background is no trouble.

    Args:
        annotations: the dataset.
        size: the longest side of images in the cache, in pixels.
        window: the side of a window in pixels.
        piece: the side of a piece, in windows; 1 is a single window.
        augment: moves the pieces around objects by up to `translate` of the object's side, scales them (the object's
            area, by 1 ± `scale`), rotates, shears and warps all pieces, changes colours and mirrors.
        seed: the seed of the run.
        preprocess: padding and stretching are read.
        cache_gb: the most memory for decoded images.
        balanced: draw each class equally often.

    Raises:
        UserError: there is no object, or none that the smallest window fits; named transforms, which cut boxes off
            where the image ends.
    """

    def __init__(
        self,
        annotations: Annotations,
        size: int,
        window: int,
        piece: float = 1.0,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 16.0,
        balanced: bool = False,
    ) -> None:
        self.annotations, self.crops, self.seed, self.pad = annotations, Crops.of(annotations), seed, preprocess.pad
        self.window, self.piece, self.side = window, piece, round(piece * window)
        self.config = augment or STILL
        if self.config.albumentations or self.config.transforms:
            raise UserError(
                "augment.albumentations and augment.transforms are for whole images: sliding windows cannot use them"
            )
        self.augment = Augmenter(self.config, preprocess)
        self.images = ScaledImages(annotations, size, preprocess.stretch)
        self.sides = self.images.sides
        self.cache = self.images.cache(cache_gb)
        sizes = known_sizes(annotations)
        self.boxes = annotations.boxes.copy()  # of all objects, xyxy in pixels of the images as cached
        self.boxes[:, 2:] += self.boxes[:, :2]
        self.boxes *= np.tile((self.sides / sizes)[:, ::-1], 2).repeat(np.diff(annotations.starts), axis=0)
        self.rows = np.flatnonzero(~annotations.crowd)  # those that windows are drawn around
        self.order = shuffled(len(self.crops) * (1 + ANYWHERE), seed)
        self.objects = sampling.balanced(self.crops.labels, seed) if balanced else None
        self._tell_small(size)

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, Target]:
        rng = generator(Stream.SAMPLE, self.seed, key.epoch, key.position)
        index = self.index(key.epoch, key.position)
        shown = index < len(self.crops)
        row = index if self.objects is None or not shown else int(self.objects(key.epoch)[index])
        image = int(self.crops.images[row]) if shown else (index + key.epoch * len(self)) % len(self.annotations)
        least, longest = self._sides(image, key.size)
        if shown:
            x, y, side = self._around(row, rng)
        else:
            side = least * (longest / least) ** rng.random()
            height, width = self.sides[image].tolist()
            x, y = (rng.random() * (n - side) + side / 2 for n in (width, height))
        warp = random_warp(self.side, self.config, rng) if any(SETTINGS(self.config)) else None
        cut, target = self._cut(image, x, y, min(max(side, least), longest), warp)
        return self.augment(cut, target, self.side, rng)

    @property
    def canvases(self) -> np.ndarray:
        """Raises UserError: there are no samples without augmentation."""
        raise UserError("--cache-features computes features once, and sliding windows are drawn anew every epoch")

    def _tell_small(self, size: int) -> None:
        if not len(self.crops):
            raise UserError(f"{self.annotations.path}: there is no window to learn: it holds no object")
        boxes = self.boxes[self.rows]
        least = self.sides.max(axis=1)[self.crops.images] * self.window / size
        small = int(((boxes[:, 2:] - boxes[:, :2]).max(axis=1) < REACH * least).sum())
        what = f"{small} of {len(boxes)} objects are too small for a window of {self.window} px in images of {size}"
        if small == len(boxes):
            raise UserError(f"{self.annotations.path}: {what}: raise --imgsz")
        if small:
            say(f"{self.annotations.path}: {what}: a larger --imgsz shows them", file=sys.stderr)

    def _sides(self, image: int, size: int) -> tuple[float, float]:
        """The least and the greatest side of pieces, in pixels of the image as cached."""
        longest = float(self.sides[image].max())
        least = longest * self.side / size
        return least, max(least, longest)

    def _around(self, row: int, rng: np.random.Generator) -> tuple[float, float, float]:
        """Middle x, y and side of a piece around an object."""
        x0, y0, x1, y1 = self.boxes[self.rows[row]].tolist()
        side, shift, spread = max(x1 - x0, y1 - y0), self.config.translate, self.config.scale
        x, y = rng.uniform(-shift, shift, 2).tolist()
        scale = self.piece * rng.uniform(1 - spread, 1 + spread) ** 0.5
        return (x0 + x1) / 2 + x * side, (y0 + y1) / 2 + y * side, side * scale

    def _cut(self, image: int, x: float, y: float, side: float, warp: Warp | None) -> tuple[np.ndarray, Target]:
        """The piece about (x, y), or as near to it as the image lets it be; beyond its end the image is padded."""
        height, width = self.sides[image].tolist()
        left, top = (min(max(0.0, v - side / 2), max(0.0, n - side)) for v, n in ((x, width), (y, height)))
        rows, zoom = slice(*self.annotations.starts[image : image + 2].tolist()), self.side / side
        boxes, labels, crowd = map(
            torch.from_numpy, (self.boxes[rows], self.annotations.labels[rows], self.annotations.crowd[rows])
        )
        target = Target(boxes, labels, crowd, int(self.annotations.image_ids[image]), (height, width))
        canvas = np.full((self.side, self.side, 3), self.pad, np.uint8)
        move = paste(
            canvas,
            ImageTarget(self.cache.get(image, self.images.read), target),
            (-left * zoom, -top * zoom),
            zoom,
            warp,
        )
        boxes = (target.boxes * torch.tensor(move.scale * 2) + torch.tensor(move.offset * 2)).float()
        if warp is not None:
            boxes = torch.from_numpy(warp.boxes(boxes.numpy())).float()
        touched = (boxes[:, 2:] > 0).all(dim=1) & (boxes[:, :2] < self.side).all(dim=1)
        size = (self.side, self.side)
        known = self.annotations.complete(image, size)
        return canvas, replace(target, boxes=boxes, size=size, **known)[touched]
