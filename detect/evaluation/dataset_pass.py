"""The pass of a model over a data set: the path of prediction, with a loader for a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from detect.data.annotations import Annotations
from detect.data.letterbox import in_source
from detect.types import Batch, Frame, Postprocess
from detect.utils.device import autocast


@torch.inference_mode()
def detect_all(
    model: Any, batches: Iterable[Batch], keep: Postprocess, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[list[int], list[Any]]]:
    """Image ids and answers, detections in source pixels, batch by batch. `model` is lean and on `device`."""
    for batch in batches:
        with autocast(device, dtype):
            given = () if batch.proposals is None else (batch.proposals,)
            raw = model(batch.images.to(device, non_blocking=True), *given)
        found = model.decode(raw, keep)
        if batch.fits:
            found = [in_source(one, fit, keep.keep_empty) for one, fit in zip(found, batch.fits, strict=True)]
        yield [t.image_id for t in batch.targets], found


def one_by_one(predictor: Any, store: Annotations) -> Iterator[tuple[list[int], list[Any]]]:
    """The id and the answer of each picture, which goes through `predictor` as a frame does."""
    ids = store.image_ids.tolist()
    frames = (Frame(store.read(i), str(ids[i]), i) for i in range(len(store)))
    for frame, found in predictor(frames):
        yield [ids[frame.index]], [found]
