"""Crops: pieces of pictures that show one thing each, for classifiers and whatever else looks at one thing at a time.

A crop is a box of the store. What the network sees of it is its window: the box with a margin, made square as far as
the picture goes, so that a neighbour's pixels rather than grey fill it; with `Preprocess.stretch` the box's own
rectangle, warped. The window is then letterboxed as any picture is. A box as large as its picture has the picture for a
window.

Axes: N crops, C classes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detect.config.train import AugmentConfig
from detect.data.annotations import known_sizes
from detect.data.augment.transforms import ImageTarget, jitter, mirror, pipeline, single
from detect.data.datasets.detection import letterboxed
from detect.data.image_cache import ImageCache
from detect.data.images import resize
from detect.data.letterbox import Letterbox
from detect.data.rng import SampleKey, Stream, generator, order
from detect.errors import UserError
from detect.types import Preprocess, Target
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

MARGIN = 0.1  # of the longer side, on each side: boxes are tight, and a little of what is around helps


@dataclass(frozen=True, eq=False)
class Crops:
    """Boxes of a store, each a sample of its own.

    images (N,) int64 indices into the store; boxes (N, 4) float64 xyxy in pixels; labels (N,) int64; ids (N,) int64.
    """

    store: Annotations
    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    @staticmethod
    def of(store: Annotations) -> Crops:
        """Every box of the store that is no crowd region, by its annotation's id."""
        rows = np.flatnonzero(~store.crowd)
        owner = np.repeat(np.arange(len(store)), np.diff(store.starts))
        boxes = store.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        return Crops(store, owner[rows], boxes, store.labels[rows], store.ids[rows])

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        """Class names by label."""
        return self.store.names

    @property
    def path(self) -> Path:
        """Where the crops come from, for messages."""
        return self.store.path

    @cached_property
    def counts(self) -> np.ndarray:
        """(C,) crops of each class."""
        return np.bincount(self.labels, minlength=len(self.names))

    def target(self, index: int, size: tuple[int, int] = (1, 1)) -> Target:
        """The truth of a crop on a canvas of `size` (h, w): one box, the whole of it."""
        return Target(
            boxes=torch.tensor([[0.0, 0.0, size[1], size[0]]]),
            labels=torch.from_numpy(self.labels[index : index + 1]),
            crowd=torch.zeros(1, dtype=torch.bool),
            image_id=int(self.ids[index]),
            size=size,
        )

    def windows(self, stretch: bool = False) -> np.ndarray:
        """(N, 4) int64 xyxy: what the network sees of each picture. UserError: a box that is not in its picture."""
        height_width = known_sizes(self.store)[self.images]
        room = np.concatenate([height_width, height_width], axis=1)[:, [1, 0, 3, 2]]
        outside = (self.boxes[:, :2] >= room[:, :2]).any(axis=1) | (self.boxes[:, 2:] <= 0).any(axis=1)
        if outside.any():
            name = self.store.file_name(int(self.images[outside][0]))
            raise UserError(f"{self.path}: annotation id {self.ids[outside][0]} lies outside its picture {name}")
        return views(self.boxes, room, stretch)


def views(boxes: np.ndarray, room: np.ndarray, stretch: bool = False) -> np.ndarray:
    """(N, 4) int64 xyxy: what is cut out for boxes (N, 4) of pictures whose width and height, twice, are `room` (N, 4).

    That is the box with its margin, made square unless it will be stretched, as far as the picture goes.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0)
    half = ((sides if stretch else longer) + 2 * MARGIN * longer) / 2
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    low, high = np.floor(middle - half), np.ceil(middle + half)
    return np.concatenate([low, high], axis=1).clip(0, room).astype(np.int64)


class CropDataset(Dataset):
    """Training samples of crops: (image (size, size, 3) uint8 RGB, Target), asked for by a SampleKey.

    Augmentation is that of a single picture (zoom, shift, warp, crop, albumentations, colour, mirror); mosaic and
    mixup, which join things, do not apply. `size` is the largest side that is kept of a window, as in CocoDataset.
    `balanced` draws each class equally often: an epoch is as long, with the crops of large classes left out by turns,
    and those of small ones repeated. `sample` gives a crop without augmentation. UserError: no crop, or one that is not
    in its picture.
    """

    points = False  # whether the truth has keypoints

    def __init__(
        self,
        crops: Crops,
        size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        pixels: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 16.0,
        balanced: bool = False,
    ) -> None:
        if not len(crops):
            raise UserError(f"{crops.path}: there is nothing to classify: it holds no box")
        self.crops, self.augment, self.seed, self.pixels, self.balanced = crops, augment, seed, pixels, balanced
        self.size = size
        self.canvases = np.full((len(crops), 2), size)  # of each `sample`
        self.windows = crops.windows(pixels.stretch)
        self.swap: Tensor | None = None  # which keypoint each one becomes in a mirror
        sides = (self.windows[:, 2:] - self.windows[:, :2])[:, ::-1]
        shrink = np.minimum(1.0, size / sides.max(axis=1, keepdims=True))
        self.kept = np.rint(sides * shrink).astype(np.int64).clip(1)  # (N, 2) height and width in the cache
        if pixels.stretch:
            self.kept[:] = size
        self.copies = None
        if augment and augment.stylized:
            from detect.data.augment.stylized import Copies  # late: few need it

            self.copies = Copies(crops.store, augment, seed)
        self.cache = ImageCache(self.kept if self.copies is None else np.tile(self.kept, (2, 1)), cache_gb)
        self.pipeline = pipeline(augment, self.points, pixels.pad) if augment else None
        self.drawn: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, draw: SampleKey) -> tuple[np.ndarray, Target]:
        index = self.index(draw.epoch, draw.position)
        tile = ImageTarget(self.piece(index, draw.epoch), self.truth(index))
        if self.augment is None:
            image, target = letterboxed(tile, draw.size, self.pixels)
            return image, self.learned(index, target)
        rng = generator(Stream.SAMPLE, self.seed, draw.epoch, draw.position)
        image, target = single(tile, draw.size, self.augment, rng, self.pixels.pad)
        if self.pipeline is not None:
            image, target = self.pipeline(image, target, rng)
            image, target = letterboxed(ImageTarget(image, target), draw.size, self.pixels)
        jitter(image, self.augment, rng)
        if rng.random() < self.augment.flip:
            cv2.flip(image, 1, dst=image)
            target = mirror(target, self.swap)
        return image, self.learned(index, target)

    def truth(self, index: int) -> Target:
        """What a crop shows, in pixels of its window: one box, the whole of it."""
        return self.crops.target(index, (int(self.kept[index, 0]), int(self.kept[index, 1])))

    def learned(self, index: int, moved: Target) -> Target:
        """What is to be learned of a sample, given where its `truth` came to lie: a crop shows its class anywhere."""
        return self.crops.target(index, moved.size)

    def sample(self, index: int) -> tuple[np.ndarray, Target, Letterbox]:
        """The crop on its canvas (size, size, 3), as a Predictor would letterbox its window."""
        fit = self._fit(index, self.size)
        return fit.apply(self.piece(index)), self.crops.target(index, fit.canvas), fit

    def index(self, epoch: int, position: int) -> int:
        """Which crop comes at that place of an epoch's order."""
        if not self.balanced:
            return int(order(self.seed, epoch, len(self))[position])
        if self.drawn[0] != epoch:
            self.drawn = (epoch, balanced_order(self.crops.labels, self.seed, epoch))
        return int(self.drawn[1][position])

    def piece(self, index: int, epoch: int | None = None) -> np.ndarray:
        """The window of a crop (h, w, 3), at most `size` long, or stretched to (size, size); to be read only.

        Of an `epoch`, it may be that of the picture's stylized copy.
        """
        copied = self.copies is not None and self.copies.shown(int(self.crops.images[index]), epoch)
        return self.cache.get(index + copied * len(self.crops), self._read)

    def _read(self, number: int) -> np.ndarray:
        copied, index = divmod(number, len(self.crops))
        left, top, right, bottom = self.windows[index].tolist()
        height, width = self.kept[index].tolist()
        pictures = self.copies if self.copies and copied else self.crops.store
        picture = pictures.read(int(self.crops.images[index]))
        return resize(picture[top:bottom, left:right], width, height)

    def _fit(self, index: int, size: int) -> Letterbox:
        height, width = self.kept[index].tolist()
        return Letterbox.fit((height, width), size, self.pixels, square=True)


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """N indices into `labels` (N,) in the order of an epoch, every class that occurs equally often but for one."""
    rng = generator(Stream.ORDER, seed, epoch)
    classes = rng.permutation(np.unique(labels))
    chosen = []
    for part, label in zip(np.array_split(np.arange(len(labels)), len(classes)), classes, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-len(part) // len(members)))]
        chosen.append(np.concatenate([np.zeros(0, np.int64), *rounds])[: len(part)])
    return rng.permutation(np.concatenate(chosen))


def require_classes(store: Annotations, held_out: Annotations) -> None:
    """Raises UserError where there is nothing to tell apart, or nothing that is learned is held out."""
    counts, others = Crops.of(store).counts, Crops.of(held_out).counts
    if (counts > 0).sum() < 2:
        raise UserError(f"{store.path}: a classifier needs pictures of at least two classes")
    if not (counts * others).any():
        raise UserError(f"{held_out.path}: nothing held out is of a class trained on: split by picture, not by class")
    lost = [store.names[i] for i in np.flatnonzero((counts == 0) & (others > 0))]
    if lost:
        say(f"classes without a training picture, which cannot be learned: {', '.join(lost)}", sys.stderr)
