"""A plain loop that trains the models of one object an image, on images that the tour's pages make themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detect.models.base import Model
from detect.types import Target

BATCH = 32


def fit(model: Model, images: Tensor, targets: Sequence[Target], epochs: int, lr: float = 0.002) -> list[dict]:
    """Train by AdamW; returns the mean of each term of the loss, for each epoch.

    Args:
        model: a localizer or a landmarker.
        images: (N, 3, S, S) uint8.
        targets: N.
        epochs: passes over the images.
        lr: highest learning rate; it falls to 0 along a cosine.
    """
    generator, history = torch.Generator().manual_seed(0), list[dict]()
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        sums: dict[str, float] = {}
        batches = torch.randperm(len(images), generator=generator).split(BATCH)
        for some in batches:
            terms = model.loss(model(images[some]), [targets[i] for i in some.tolist()])
            means = {name: term.total / term.count.clamp(min=1) for name, term in terms.items()}
            optimizer.zero_grad()
            torch.stack(list(means.values())).sum().backward()
            optimizer.step()
            sums = {name: sums.get(name, 0.0) + float(mean.detach()) for name, mean in means.items()}
        history.append({name: total / len(batches) for name, total in sums.items()})
        schedule.step()
    model.eval()
    return history
