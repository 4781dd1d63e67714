"""Signals and volumes: records of numbers along one or three axes, each of one class, for classifiers.

Axes: N records, C channels, then the sides of a record: L of a signal, D, H, W of a volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.config.augment import AugmentConfig
from detect.data import sampling
from detect.data.annotations import Annotations, encode_names
from detect.data.datasets.base import TrainDataset
from detect.data.rng import SampleKey, Stream, generator, shuffled
from detect.errors import UserError
from detect.types import Preprocess, Target
from detect.utils.names import require_names

_CHUNK = 1024  # records whose squares are in memory at a time


@dataclass(frozen=True, eq=False)
class Signals(Annotations):
    """Annotations of records, all of one shape, in memory: `values` (N, C, ...) of any real type.

    Each record has one box, as labels of whole images have, which holds its class.
    """

    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))

    @staticmethod
    def of(
        path: Path, values: np.ndarray, labels: np.ndarray, names: Sequence[str], records: Sequence[str], **more: Any
    ) -> Signals:
        """Make annotations of `values` (N, C, ...) with their `labels` (N,) in 0..C-1; `records` are their names."""
        n = len(values)
        letters, starts = encode_names(list(records))
        return Signals(
            path=path,
            root=path.parent,
            image_ids=np.arange(1, n + 1),
            sizes=np.ones((n, 2), np.int32),
            starts=np.arange(n + 1),
            boxes=np.tile([0.0, 0.0, 1.0, 1.0], (n, 1)),
            labels=labels.astype(np.int64),
            crowd=np.zeros(n, bool),
            areas=np.ones(n),
            ids=np.arange(1, n + 1),
            keypoints=None,
            category_ids=np.arange(1, len(names) + 1),
            names=require_names(names, range(1, len(names) + 1), path),
            name_bytes=letters,
            name_starts=starts,
            values=values,
            **more,
        )

    @property
    def dims(self) -> int:
        """1 for signals, 3 for volumes."""
        return self.values.ndim - 2

    @property
    def channels(self) -> int:
        """The channels of a record."""
        return int(self.values.shape[1])

    @property
    def side(self) -> int:
        """The longest side of a record."""
        return max(self.values.shape[2:])

    def select(self, indices: Sequence[int] | np.ndarray, left_out: list[str] | None = None) -> Annotations:
        """Return the annotations of these records, in this order; the classes stay."""
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        return replace(super().select(index, left_out), values=self.values[index])  # type: ignore[call-arg]

    def class_dataset(
        self,
        size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 0.0,
        balanced: bool = False,
    ) -> SignalDataset:
        """The records as they are: they have one size, and are in memory."""
        return SignalDataset(self, augment, seed, balanced)

    def preprocess(self) -> Preprocess:
        """Return the normalization of each channel: minus its mean, over its deviation (a constant stays as it is)."""
        n, axes = self.values[:, 0].size, (0, *range(2, self.values.ndim))
        chunks = range(0, len(self), _CHUNK)
        mean = np.asarray(sum(self.values[i : i + _CHUNK].sum(axes, np.float64) for i in chunks)) / n
        middle = mean.reshape(-1, *[1] * self.dims)
        square = sum(((self.values[i : i + _CHUNK] - middle) ** 2).sum(axes) for i in chunks)
        std = np.sqrt(square / n)
        return Preprocess(scale=1.0, mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))


class SignalDataset(TrainDataset):
    """Training samples of signals: (values (..., C) float32, Target), channels last, asked for by a SampleKey.

    `balanced` draws each class equally often, as for crops.
    """

    def __init__(
        self, annotations: Signals, augment: AugmentConfig | None = None, seed: int = 0, balanced: bool = False
    ) -> None:
        self.annotations, self.augment, self.seed = annotations, augment, seed
        self.canvases = np.ones((len(annotations), 2), np.int64)  # one shape for all
        self.order = sampling.balanced(annotations.labels, seed) if balanced else shuffled(len(annotations), seed)

    def __getitem__(self, draw: SampleKey) -> tuple[np.ndarray, Target]:
        values, target = self.sample(self.index(draw.epoch, draw.position))
        if self.augment is not None:
            rng = generator(Stream.SAMPLE, self.seed, draw.epoch, draw.position)
            values = varied(values, self.augment, rng)
        return values, target

    def sample(self, index: int) -> tuple[np.ndarray, Target]:
        """Return a record by its index, without augmentation."""
        return np.moveaxis(self.annotations.values[index], 0, -1).astype(np.float32), self.annotations.target(index)


def varied(values: np.ndarray, augment: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Augment a record (..., C): shift it along each axis, scale its values, and mirror volumes along each axis.

    What a shift leaves open repeats the edge. A signal is never mirrored: time has a direction.
    """
    for axis, side in enumerate(values.shape[:-1]):
        most = int(augment.translate * side)
        places = np.arange(side) - rng.integers(-most, most, endpoint=True)
        values = values.take(places.clip(0, side - 1), axis)
        if values.ndim == 4 and rng.random() < augment.flip:
            values = np.flip(values, axis)
    gain = 1 + augment.value * rng.uniform(-1, 1)
    return values * np.float32(gain)


def require_fit(annotations: Annotations, dims: int, channels: int) -> None:
    """Raises UserError where a network of `dims` dimensions and `channels` cannot look at the annotations."""
    kinds = {1: "signals", 2: "images", 3: "volumes"}
    if annotations.dims != dims:
        raise UserError(
            f"{annotations.path} holds {kinds[annotations.dims]}, and the network takes {kinds[dims]}: "
            f"--model.dims is {dims}, {annotations.dims} would fit"
        )
    there = annotations.channels or channels
    if there != channels:
        raise UserError(f"{annotations.path}: its records have {there} channels, the network takes {channels}")
