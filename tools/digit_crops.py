"""The digits of the toy set as tensors, and a plain loop that trains small networks on them in seconds.

The tour's curves come from it: same images, order and start for every network that is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from detect.data.sources.formats import load_data

SIDE, BATCH = 32, 64


@cache
@torch.inference_mode(False)  # what is kept is trained on later, whoever asks first
def crops(split: str = "train", side: int = SIDE) -> tuple[Tensor, Tensor]:
    """The digits of a split: images (N, 3, side, side) float32 from -1 to 1, and labels (N,)."""
    data: Any = load_data("toy", split).class_dataset(side)
    samples = [data.sample(i)[:2] for i in range(len(data))]
    images = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image, _ in samples])
    return images.float() / 127.5 - 1, torch.stack([target.labels[0] for _, target in samples])


def fit(
    network: Callable[[Tensor], Any],
    parameters: list[nn.Parameter],
    epochs: int,
    lr: float = 0.002,
    data: tuple[Tensor, Tensor] | None = None,
    after: Callable[[int], None] = lambda epoch: None,
) -> list[float]:
    """Train by AdamW; returns the mean loss of each epoch.

    Args:
        network: from images to logits.
        parameters: those to train.
        epochs: passes over the images.
        lr: learning rate, the same throughout.
        data: images and labels; default: all training digits.
        after: called at the end of each epoch.
    """
    inputs, labels = data or crops()
    count = len(labels)
    optimizer, losses = torch.optim.AdamW(parameters, lr), []
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        total = 0.0
        for some in torch.randperm(count, generator=generator).split(BATCH):
            loss = cross_entropy(network(inputs[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(some)
        losses.append(total / count)
        after(epoch)
    return losses


@torch.inference_mode()
def accuracy(network: Callable[[Tensor], Any], data: tuple[Tensor, Tensor] | None = None) -> float:
    """The share of images that are classified correctly; default: all validation digits."""
    inputs, labels = data or crops("val")
    found = torch.cat([network(some).argmax(1) for some in inputs.split(256)])
    return float((found == labels).float().mean())
