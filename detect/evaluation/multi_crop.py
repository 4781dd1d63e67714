"""Multi-crop evaluation of classifiers: probabilities averaged over several views of each image.

Axes: B batch, N crops, C classes, S side of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from detect.data.annotations import Annotations
from detect.data.loader import SampleLoader
from detect.types import Batch
from detect.utils.device import autocast, pick_workers
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.api import Detector
    from detect.commands.evaluate import EvaluateConfig

MOST = 10
PART = 0.875  # side of a corner view over that of the image: 224 of 256, as Krizhevsky et al. (2012) tested


def canvas_side(side: int, count: int) -> int:
    """Side of the images that `views` takes, for a network with inputs of `side` pixels."""
    return side if count <= 2 else round(side / PART)


def views(images: Tensor, side: int, count: int) -> Iterator[Tensor]:
    """Several views (B, 3, S, S) uint8 of images, in this order: whole, mirrored, four corners, their mirror images.

    Args:
        images: (B, 3, H, W) uint8, of `canvas_side` pixels.
        side: S, side of a view.
        count: number of views, 1 to 10.
    """
    if images.ndim != 4 or (count == 1 and images.shape[-1] == side):  # signals and volumes have no other view
        yield images
        return
    resized = images
    if images.shape[-1] != side:
        small = interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
        resized = small.round().clamp(0, 255).to(torch.uint8)
    corners = [images[..., y, x] for y in (slice(side), slice(-side, None)) for x in (slice(side), slice(-side, None))]
    every = [resized, resized.flip(3), *corners, *(corner.flip(3) for corner in corners)]
    yield from islice(every, count)


@torch.inference_mode()
def class_scores(
    model: Any, batches: Iterable[Batch], side: int, count: int, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[list[int], Tensor]]:
    """Ids and mean probabilities (B, C) over `count` views, batch by batch; `model` is fused and on `device`."""
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        scores = []
        for view in views(images, side, count):
            with autocast(device, dtype):
                output = model(view)
            scores.append(model.scores(output).cpu())
        yield [t.image_id for t in batch.targets], torch.stack(scores).mean(0)


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
