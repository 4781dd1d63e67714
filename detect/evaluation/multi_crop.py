"""Multi-crop evaluation of classifiers: probabilities averaged over several views of each image.

Axes: B batch, N crops, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from detect.data.annotations import Annotations
from detect.data.loader import SampleLoader
from detect.models.class_views import canvas_side, mean_over_views
from detect.types import Batch
from detect.utils.device import autocast, pick_workers
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.commands.evaluate import EvaluateConfig


@torch.inference_mode()
def class_scores(
    model: Any, batches: Iterable[Batch], side: int, count: int, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[list[int], Tensor]]:
    """Ids and mean probabilities (B, C) over `count` views, batch by batch; `model` is fused and on `device`."""
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        scores = mean_over_views(model, images, side, count, autocast(device, dtype))
        yield [t.image_id for t in batch.targets], scores


def mean_scores(
    config: EvaluateConfig, members: Sequence[Detector], annotations: Annotations
) -> tuple[list[int], Tensor]:
    """Ids of the crops of a split, and their probabilities (N, C), averaged over classifiers and views."""
    workers, ids, total = pick_workers(config.workers), list[int](), torch.zeros(())
    for member in members:
        side = member.side(config.imgsz)
        canvas = canvas_side(side, config.crops)
        data: Any = annotations.class_dataset(canvas, preprocess=member.metadata.preprocess)
        loader = SampleLoader(data, config.batch, workers)
        scored = class_scores(member.model, loader, side, config.crops, member.device, member.dtype)
        parts = list(track(scored, len(loader), "evaluate"))
        ids = [
            one for some, _ in parts for one in some
        ]  # all have one canvas size, so every loader gives the same order
        total = total + torch.cat([scores for _, scores in parts])
    return ids, total / len(members)
