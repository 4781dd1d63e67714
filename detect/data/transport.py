"""How batches travel from worker processes: few large pieces, and a user's error as a value."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from detect.data.letterbox import Letterbox
from detect.errors import UserError
from detect.types import Batch, Target


class Packed(NamedTuple):
    """A batch on its way from a worker: tensors travel by a file handle each, so all targets travel as few arrays."""

    images: torch.Tensor  # (B, H, W, 3)
    counts: list[int]
    arrays: dict[str, np.ndarray | None]
    image_ids: list[int]
    sizes: list[tuple[int, int]]
    fits: list[Letterbox]


def pack(samples: Iterable[tuple[np.ndarray, Target]], shape: tuple[int, ...], fits: list[Letterbox]) -> Packed:
    """The samples in arrays of shape (B, H, W, 3); each picture is let go before the next one is made."""
    stacked = torch.empty(shape, dtype=torch.uint8)
    if get_worker_info() is not None:  # write straight into memory that the main process sees
        storage = torch.UntypedStorage._new_shared(stacked.numel(), device="cpu")
        stacked = torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
    images, targets = stacked.numpy(), []
    for i, (image, target) in enumerate(samples):
        images[i] = image
        targets.append(target)
    columns: dict[str, np.ndarray | None] = {}
    for name in ("boxes", "labels", "crowd", "points"):
        parts = [getattr(target, name) for target in targets]
        columns[name] = None if parts[0] is None else torch.cat(parts).numpy()
    ids, sizes = [t.image_id for t in targets], [t.size for t in targets]
    return Packed(stacked, [len(t) for t in targets], columns, ids, sizes, fits)


def _unpack(packed: Packed) -> Batch:
    columns: dict[str, Any] = {}
    for name, array in packed.arrays.items():
        columns[name] = [None] * len(packed.counts) if array is None else torch.from_numpy(array).split(packed.counts)
    targets = [
        Target(columns["boxes"][i], columns["labels"][i], columns["crowd"][i], image_id, size, columns["points"][i])
        for i, (image_id, size) in enumerate(zip(packed.image_ids, packed.sizes, strict=True))
    ]
    return Batch(packed.images.permute(0, 3, 1, 2), targets, packed.fits)


class _Guarded(Dataset):
    """Whole batches by their plan; a UserError is handed over as a value, for DataLoader would wrap it."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __getitem__(self, plan: Any) -> Packed | UserError:
        try:
            return self.make(plan)
        except UserError as error:
            return error


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends its workers itself
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _same(value: Any) -> Any:
    return value


def through_workers(make: Callable[[Any], Packed], sampler: Any, workers: int, pin: bool) -> DataLoader:
    several: dict[str, Any] = {}
    if workers:
        context = "fork" if sys.platform == "linux" else None  # forked workers share the store and the cache
        several = {"persistent_workers": True, "multiprocessing_context": context, "worker_init_fn": _start_worker}
    return DataLoader(
        _Guarded(make),
        batch_size=None,
        sampler=sampler,
        collate_fn=_same,
        num_workers=workers,
        pin_memory=pin,
        generator=torch.Generator(),  # its own: iterating must not advance the training's
        **several,
    )


def stream(loader: DataLoader) -> Iterator[Batch]:
    for packed in loader:
        if isinstance(packed, UserError):
            raise UserError(*packed.args)  # a new one: this frame would keep itself and the workers alive in `packed`
        yield _unpack(packed)
