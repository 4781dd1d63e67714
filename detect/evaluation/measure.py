"""The pass of a model over a data set: the path of prediction, with a loader for a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from anchors.boxes import clip
from detect.device import autocast
from detect.models.base import Model
from detect.types import Batch, Detections, Keep


@torch.inference_mode()
def detect_all(
    model: Model, batches: Iterable[Batch], keep: Keep, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[list[int], list[Detections]]]:
    """Image ids and detections in source pixels, batch by batch. `model` is lean and on `device`."""
    for batch in batches:
        with autocast(device, dtype):
            raw = model(batch.images.to(device, non_blocking=True))
        found = []
        for fit, one in zip(batch.fits, model.decode(raw, keep), strict=True):
            found.append(Detections(clip(fit.undo(one.boxes), fit.source), one.scores, one.labels))
        yield [t.image_id for t in batch.targets], found
