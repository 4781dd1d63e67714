"""Batch-norm statistics: of a network whose batch norms were folded into its convolutions, and of images that must not
enter them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # of one process or several

from detect.data.rng import SampleKey
from detect.models.base import Model

IMAGES, BATCH = 64, 8  # images that the statistics are measured on, and how many at once


def samples(data: Any, size: int) -> Iterator[Tensor]:
    """Batches of the first training samples, the same on every rank.

    Args:
        data: the training set, asked for by `SampleKey`.
        size: the side of the samples in pixels.

    Yields:
        (B, 3, size, size) uint8.
    """
    for start in range(0, min(IMAGES, len(data)), BATCH):
        places = range(start, min(start + BATCH, IMAGES, len(data)))
        images = np.stack([data[SampleKey(0, place, size)][0] for place in places])
        yield torch.from_numpy(images).permute(0, 3, 1, 2)


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """While it lasts, batch normalizations in training mode leave their running statistics alone."""
    momenta = {norm: norm.momentum for norm in model.modules() if isinstance(norm, _BatchNorm)}
    for norm in momenta:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


@torch.no_grad()
def unfold(model: Model, images: Iterable[Tensor]) -> None:
    """Give every batch normalization of a model the mean and variance of its input, measured on images.

    Its weight and bias change with them, so that the outputs in evaluation mode stay the same; in training mode, where
    the statistics of the batch count, they are then nearly the same.

    Args:
        model: changed in place.
        images: batches (B, 3, H, W) uint8.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def note(norm: nn.Module, given: tuple[Tensor]) -> None:
        x = given[0].double()
        moments = torch.stack([torch.ones_like(x).sum((0, 2, 3)), x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
        sums[norm] += moments.cpu()  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    model.eval()
    for batch in images:
        model(batch.to(model.gain.device))
    for hook in hooks:
        hook.remove()
    for norm in norms:
        count, total, square = sums[norm]
        _restate(norm, total / count, (square / count - (total / count).square()).clamp(min=0))
    model.metadata = replace(model.metadata, folded=False)


def _restate(norm: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    """Set other statistics (C,) so that the output in evaluation mode stays the same."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    old = [t.double().cpu() for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)]
    gain = old[2] * (old[1] + norm.eps).rsqrt()
    shift = old[3] - old[0] * gain
    new = mean, var, gain * (var + norm.eps).sqrt(), shift + gain * mean
    for statistic, value in zip((norm.running_mean, norm.running_var, norm.weight, norm.bias), new, strict=True):
        statistic.copy_(value)
    norm.num_batches_tracked.fill_(1)
