"""Boxes and scores to suppress, drawn from a seed: what the tests and the benchmark of NMS have in common."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Scene = Callable[[int, int], tuple[Tensor, Tensor]]  # (n, seed) -> boxes (n, 4) xyxy float32, scores (n,)


def scattered(n, seed=0, canvas=640.0, least=4.0, most=60.0, square=False, clusters=0, spread=2.0):
    """Centres uniform over a square canvas, sides log-uniform; `clusters` > 0: boxes jittered about so many of them."""
    g = torch.Generator().manual_seed(seed)
    homes = clusters or n
    center = torch.rand(homes, 2, generator=g) * canvas
    size = torch.rand(homes, 1 if square else 2, generator=g).mul(math.log(most / least)).exp().mul(least).expand(-1, 2)
    if clusters:
        home = torch.randint(clusters, (n,), generator=g)
        size = size[home] * (1 + 0.05 * torch.randn(n, 2, generator=g).clamp(-3, 3))
        center = center[home] + torch.randn(n, 2, generator=g) * spread
    return torch.cat((center - size / 2, center + size / 2), -1), torch.rand(n, generator=g)


def sparse(n, seed=0):
    """More than nine in ten survive an IoU of 0.5."""
    return scattered(n, seed, canvas=640 * math.sqrt(n / 1000), least=16, most=64)


def half(n, seed=0):
    """Somewhat more than half survive an IoU of 0.5."""
    return scattered(n, seed, canvas=640 * math.sqrt(n / 8400), least=16, most=64)


def crowded(n, seed=0):
    """Some two hundred survive an IoU of 0.5: a trained detector before its threshold."""
    return scattered(n, seed, least=20, most=200, clusters=150)


def turned(scene: Scene) -> Scene:
    """A scene of oriented boxes (n, 5), whose angles follow their places, as those around one object do."""

    def draw(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        boxes, scores = scene(n, seed)
        center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        g = torch.Generator().manual_seed(seed + 1)
        angle = center.sum(1, keepdim=True) / 100 + torch.randn(n, 1, generator=g) / 20
        return torch.cat((center, size, angle), 1), scores

    return draw
