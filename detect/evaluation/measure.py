"""The pass of a model over a data set: the path of prediction, with a loader for a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from detect.device import autocast
from detect.models.base import Model
from detect.types import Batch, Detections, Keep


@torch.inference_mode()
def detect_all(
    model: Model, batches: Iterable[Batch], keep: Keep, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[list[int], list[Any]]]:
    """Image ids and answers, detections in source pixels, batch by batch. `model` is lean and on `device`."""
    for batch in batches:
        with autocast(device, dtype):
            given = () if batch.proposals is None else (batch.proposals,)
            raw = model(batch.images.to(device, non_blocking=True), *given)
        found = model.decode(raw, keep)
        for i, (fit, one) in enumerate(zip(batch.fits, found, strict=True)):
            if isinstance(one, Detections):
                points = None if one.points is None else fit.undo(one.points)
                found[i] = Detections(fit.clip(fit.undo(one.boxes)), one.scores, one.labels, points)
        yield [t.image_id for t in batch.targets], found
