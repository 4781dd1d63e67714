"""Labelled samples that bring views of images without labels with them.

Which images come when, and how they are augmented, is a function of (seed, epoch, position) alone, as it is for the
labelled ones: not of workers, batches or ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from detect.config.augment import AugmentConfig
from detect.data.augment.strong import strong_view
from detect.data.datasets.base import TrainDataset
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import TrainLoader
from detect.data.rng import SampleKey, Stream, generator
from detect.types import Batch, Preprocess, Target

if TYPE_CHECKING:
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations


def weak(augment: AugmentConfig) -> AugmentConfig:
    """The weak view: how the images of a run are placed and mirrored, alone and with their own colours."""
    alone = replace(augment, mosaic=0.0, mixup=0.0, albumentations=[], transforms=[], stylized="")
    return replace(alone, hue=0.0, saturation=0.0, value=0.0)


class WithUnlabelled(TrainDataset):
    """Samples of a dataset, each followed along the axis of channels by two views, weak and strong, of other images.

    Both views show the same pixels in the same places. The images without labels come in shuffled passes, each once a
    pass, whatever the length of an epoch.

    Args:
        labelled: the dataset; it gives images (size, size, 3).
        unlabelled: images without labels.
        size: the longest side of cached images in pixels.
        augment: the augmentation of the run; None: none.
        preprocess: padding, alignment and stretching are read.
        cache_gb: the most memory for decoded images without labels.
        each: images without labels for each sample.
        first: the first epoch that has them.
    """

    def __init__(
        self,
        labelled: CocoDataset,
        unlabelled: Annotations,
        size: int,
        augment: AugmentConfig | None,
        preprocess: Preprocess,
        cache_gb: float,
        each: int = 1,
        first: int = 0,
    ) -> None:
        self.labelled, self.order, self.seed, self.each, self.first = (
            labelled,
            labelled.order,
            labelled.seed,
            each,
            first,
        )
        seed = int(generator(Stream.UNLABELLED, self.seed).integers(2**62))  # other draws than the labelled ones'
        views = weak(augment) if augment else None
        self.others = CocoDataset(unlabelled, size, views, seed, preprocess=preprocess, cache_gb=cache_gb)

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, Target]:
        image, target = self.labelled[key]
        if key.epoch < self.first:
            return image, target
        views, start = [image], ((key.epoch - self.first) * len(self) + key.position) * self.each
        for number in range(start, start + self.each):
            view, _ = self.others[SampleKey(*divmod(number, len(self.others)), key.size)]
            views += [view, strong_view(view.copy(), generator(Stream.UNLABELLED, self.seed, 1, number))]
        return np.concatenate(views, axis=2), target


def with_unlabelled(
    config: TrainConfig, labelled: CocoDataset, unlabelled: Annotations, preprocess: Preprocess, cache_gb: float
) -> WithUnlabelled:
    """The `WithUnlabelled` dataset of a run; the image cache of each of its parts has `cache_gb`."""
    augment, pseudo = config.augment if config.augment.on else None, config.pseudo
    return WithUnlabelled(
        labelled, unlabelled, config.imgsz, augment, preprocess, cache_gb, pseudo.each, pseudo.burn_in
    )


class UnlabelledLoader(TrainLoader):
    """Batches of a `WithUnlabelled` dataset, whose views are in `Batch.unlabelled` (U, 2, 3, H, W)."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, as `TrainLoader.epoch` does."""
        for batch in super().epoch(epoch, start):
            if batch.images.shape[1] == 3:
                yield batch
                continue
            images = batch.images[:, :3].contiguous(memory_format=torch.channels_last)
            views = batch.images[:, 3:].unflatten(1, (-1, 2, 3)).flatten(0, 1)
            yield replace(batch, images=images, unlabelled=views)
