"""Loaders: batches of training samples, and of every sample once for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from detect.data.annotations import known_sizes
from detect.data.image_cache import ImageCache
from detect.data.letterbox import Letterbox
from detect.data.rng import BatchPlan, batches
from detect.data.workers import stream, through_workers
from detect.types import Batch, Preprocess, Target

if TYPE_CHECKING:
    from detect.data.annotations import Annotations


class TrainLoader:
    """Batches of augmented samples, epoch by epoch, bit-equal for any number of workers. Make it once: workers stay.

    Images are (B, 3, H, W) uint8 RGB in channels-last memory: as they were decoded, which saves transposing each one.

    Args:
        dataset: gives samples by SampleKey, as CocoDataset does.
        size: the side of images in pixels.
        batch: the number of images in a step of this rank.
        workers: processes that make samples; 0: none.
        rank, world: this process and the number of processes.
        multi_scale: draw each step's size from the multiples of 32 in [1 - m, 1 + m] times `size`.
        pin: put batches into page-locked memory.
        shared: the number of images in a step of all ranks, which share them; 0: `batch` in each.

    Raises:
        UserError: there are fewer images than ranks.
    """

    def __init__(
        self,
        dataset: Any,
        size: int,
        batch: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        multi_scale: float = 0.0,
        pin: bool = False,
        shared: int = 0,
    ) -> None:
        self.plan = BatchPlan(batches(len(dataset), batch, rank, world, shared), size, multi_scale, dataset.seed)
        self.loader = through_workers(dataset.__getitem__, self.plan, workers, pin)

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.plan.parts)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on as they would have come after the earlier ones."""
        self.plan.epoch, self.plan.start = epoch, start
        return stream(self.loader)


class _Letterboxed:
    """The images of a dataset letterboxed on canvases of their own, and cached."""

    def __init__(
        self, annotations: Annotations, size: int, preprocess: Preprocess, cache_gb: float, square: bool
    ) -> None:
        self.annotations, self.size, self.preprocess, self.square = annotations, size, preprocess, square
        self.sizes = known_sizes(annotations)
        self.canvases = np.array([self.fit(i).canvas for i in range(len(annotations))], dtype=np.int64).reshape(-1, 2)
        self.cache = ImageCache(self.canvases, cache_gb)

    def fit(self, index: int) -> Letterbox:
        height, width = self.sizes[index].tolist()  # kept, each worker would copy all letterboxes
        return Letterbox.fit((height, width), self.size, self.preprocess, self.square)

    def sample(self, index: int) -> tuple[np.ndarray, Target, Letterbox]:
        target, fit = self.annotations.target(index), self.fit(index)
        points = None if target.keypoints is None else fit.forward(target.keypoints)
        proposals = None if target.proposals is None else fit.forward(target.proposals)
        boxes = fit.forward(target.boxes)
        moved = Target(boxes, target.labels, target.crowd, target.image_id, fit.canvas, points, proposals)
        return self.cache.get(index, self._read), moved, fit

    def fetch_ahead(self, indices: list[int]) -> None:
        """Begin to fetch the images of a batch, where they lie in an object store."""
        self.annotations.fetch_ahead(indices)

    def _read(self, index: int) -> np.ndarray:
        return self.fit(index).apply(self.annotations.read(index))


class Samples(Protocol):
    """Samples by index, each on a canvas of its own: canvases (N, 2) are their heights and widths."""

    canvases: np.ndarray

    def sample(self, index: int) -> tuple[np.ndarray, Target, Letterbox]: ...


class SampleLoader:
    """Every sample once, those of one canvas together; iterate it once an evaluation.

    A rank gets every `world`-th batch.
    """

    def __init__(
        self, samples: Samples, batch: int, workers: int = 0, rank: int = 0, world: int = 1, pin: bool = False
    ) -> None:
        parts: list[list[int]] = []
        for canvas in np.unique(samples.canvases, axis=0):
            chosen = np.flatnonzero((samples.canvases == canvas).all(axis=1))
            parts += [chosen[part].tolist() for part in batches(len(chosen), batch)]
        self.loader = through_workers(samples.sample, parts[rank::world], workers, pin)

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return stream(self.loader)


class EvalLoader(SampleLoader):
    """Every image of a dataset once, letterboxed, those of one canvas size together; iterate it once an evaluation.

    A rank gets every `world`-th batch. Boxes are in pixels of the canvas; `Batch.fits` converts back to the source.
    Letterboxed images are cached, so that later evaluations decode nothing.

    Args:
        annotations: the dataset.
        size: the long side of images in pixels.
        batch: images in a batch.
        preprocess: padding, alignment and stretching are read.
        workers, rank, world, pin: see TrainLoader.
        cache_gb: the most memory for letterboxed images.
        square: make every canvas square.
    """

    def __init__(
        self,
        annotations: Annotations,
        size: int,
        batch: int,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        cache_gb: float = 8.0,
        pin: bool = False,
        square: bool = False,
    ) -> None:
        super().__init__(
            _Letterboxed(annotations, size, preprocess, cache_gb, square), batch, workers, rank, world, pin
        )
