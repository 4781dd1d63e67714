"""Training samples of sliding windows: pieces of pictures around objects, and anywhere.

Axes: N objects, I pictures.
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

ANYWHERE = 3  # pieces that are drawn anywhere, for each around an object
REACH = 0.6**0.5  # of the smallest window: an object that is smaller no window fits well enough to show it
STILL = AugmentConfig(scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)


class WindowDataset(TrainDataset):
    """Pieces of a store's pictures: (image (side, side, 3) uint8 RGB, Target in its pixels), asked for by a SampleKey.

    A piece is `piece` times as long as a window of `window` pixels: 1 is a single window. An epoch has one around every
    object that is no crowd region, in which a window in the middle would hold the object, and ANYWHERE times as many of
    any size and at any place, in pictures taken by turns, those without objects too. Their windows are at least
    `window` pixels long where the longer side of the picture is that of the SampleKey. They lie within the picture as
    far as it is large enough; what lies beyond is padded. The truth is every object that a piece touches, whole: which
    of its windows shows one, or none, or so little of one that it should not count, is for the loss to say. So a
    picture that has no background makes no trouble.

    `augment` moves the pieces around objects (by up to `translate` of the object's side), scales them (the object's
    area, by 1 ± `scale`), rotates, shears and warps all pieces, changes colours and mirrors. `balanced` draws each
    class equally often. UserError: no object, or none that the smallest window fits; albumentations, whose boxes end
    where the picture does.
    """

    def __init__(
        self,
        store: Annotations,
        size: int,
        window: int,
        piece: float = 1.0,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 16.0,
        balanced: bool = False,
    ) -> None:
        self.store, self.crops, self.seed, self.pad = store, Crops.of(store), seed, preprocess.pad
        self.window, self.piece, self.side = window, piece, round(piece * window)
        self.config = augment or STILL
        if self.config.albumentations or self.config.transforms:
            raise UserError(
                "augment.albumentations and augment.transforms are for whole images: sliding windows cannot use them"
            )
        self.augment = Augmenter(self.config, preprocess)
        self.images = ScaledImages(store, size, preprocess.stretch)
        self.sides = self.images.sides
        self.cache = self.images.cache(cache_gb)
        sizes = known_sizes(store)
        self.boxes = store.boxes.copy()  # of all objects, xyxy in pixels of the pictures as they are kept
        self.boxes[:, 2:] += self.boxes[:, :2]
        self.boxes *= np.tile((self.sides / sizes)[:, ::-1], 2).repeat(np.diff(store.starts), axis=0)
        self.rows = np.flatnonzero(~store.crowd)  # those that windows are drawn around
        self.order = shuffled(len(self.crops) * (1 + ANYWHERE), seed)
        self.objects = sampling.balanced(self.crops.labels, seed) if balanced else None
        self._tell_small(size)

    def __getitem__(self, draw: SampleKey) -> tuple[np.ndarray, Target]:
        rng = generator(Stream.SAMPLE, self.seed, draw.epoch, draw.position)
        index = self.index(draw.epoch, draw.position)
        shown = index < len(self.crops)
        row = index if self.objects is None or not shown else int(self.objects(draw.epoch)[index])
        image = int(self.crops.images[row]) if shown else (index + draw.epoch * len(self)) % len(self.store)
        least, longest = self._sides(image, draw.size)
        if shown:
            x, y, side = self._around(row, rng)
        else:
            side = least * (longest / least) ** rng.random()
            height, width = self.sides[image].tolist()
            x, y = (rng.random() * (n - side) + side / 2 for n in (width, height))
        warp = random_warp(self.side, self.config, rng) if any(SETTINGS(self.config)) else None
        picture, target = self._cut(image, x, y, min(max(side, least), longest), warp)
        return self.augment(picture, target, self.side, rng)

    @property
    def canvases(self) -> np.ndarray:
        """There are no still samples: raises UserError."""
        raise UserError("--cache-features computes features once, and sliding windows are drawn anew every epoch")

    def _tell_small(self, size: int) -> None:
        if not len(self.crops):
            raise UserError(f"{self.store.path}: there is no window to learn: it holds no object")
        boxes = self.boxes[self.rows]
        least = self.sides.max(axis=1)[self.crops.images] * self.window / size
        small = int(((boxes[:, 2:] - boxes[:, :2]).max(axis=1) < REACH * least).sum())
        what = f"{small} of {len(boxes)} objects are too small for a window of {self.window} px in pictures of {size}"
        if small == len(boxes):
            raise UserError(f"{self.store.path}: {what}: raise --imgsz")
        if small:
            say(f"{self.store.path}: {what}: a larger --imgsz shows them", file=sys.stderr)

    def _sides(self, image: int, size: int) -> tuple[float, float]:
        """The least and the greatest side of pieces, in pixels of the picture as it is kept."""
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
        """The piece about (x, y), or as near to it as the picture lets it be; beyond its end the picture is padded."""
        height, width = self.sides[image].tolist()
        left, top = (min(max(0.0, v - side / 2), max(0.0, n - side)) for v, n in ((x, width), (y, height)))
        rows, zoom = slice(*self.store.starts[image : image + 2].tolist()), self.side / side
        boxes, labels, crowd = map(
            torch.from_numpy, (self.boxes[rows], self.store.labels[rows], self.store.crowd[rows])
        )
        truth = Target(boxes, labels, crowd, int(self.store.image_ids[image]), (height, width))
        canvas = np.full((self.side, self.side, 3), self.pad, np.uint8)
        move = paste(
            canvas, ImageTarget(self.cache.get(image, self.images.read), truth), (-left * zoom, -top * zoom), zoom, warp
        )
        boxes = (truth.boxes * torch.tensor(move.scale * 2) + torch.tensor(move.offset * 2)).float()
        if warp is not None:
            boxes = torch.from_numpy(warp.boxes(boxes.numpy())).float()
        touched = (boxes[:, 2:] > 0).all(dim=1) & (boxes[:, :2] < self.side).all(dim=1)
        return canvas, replace(truth, boxes=boxes, size=canvas.shape[:2])[touched]
