"""Optimizers, learning-rate schedules and the moving average of weights."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detect.config import OptimConfig
from detect.models.base import Model

Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups, OptimConfig], torch.optim.Optimizer]] = {
    "sgd": lambda groups, c: torch.optim.SGD(groups, c.lr, fused=True),
    "momentum": lambda groups, c: torch.optim.SGD(groups, c.lr, c.momentum, fused=True),
    "nesterov": lambda groups, c: torch.optim.SGD(groups, c.lr, c.momentum, nesterov=c.momentum > 0, fused=True),
    "adagrad": lambda groups, c: torch.optim.Adagrad(groups, c.lr),
    "rmsprop": lambda groups, c: torch.optim.RMSprop(groups, c.lr, momentum=c.momentum),
    "adam": lambda groups, c: torch.optim.Adam(groups, c.lr, (c.momentum, 0.999), fused=True),
    "adamw": lambda groups, c: torch.optim.AdamW(groups, c.lr, (c.momentum, 0.999), fused=True),
}

SCHEDULES: dict[str, Callable[[OptimConfig, float, float], float]] = {  # of t, the share of the run after the warm-up
    "constant": lambda c, t, _: 1.0,
    "piecewise": lambda c, _, whole: c.gamma ** bisect_right(sorted(c.milestones), whole),
    "exponential": lambda c, t, _: max(c.final, 1e-6) ** t,
    "1/t": lambda c, t, _: 1 / (1 + (1 / max(c.final, 1e-6) - 1) * t),
    "cosine": lambda c, t, _: c.final + (1 - c.final) * 0.5 * (1 + math.cos(math.pi * t)),
    "linear": lambda c, t, _: 1 + (c.final - 1) * t,
}


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer named in `config`. Weight decay is for weights of convolutions and dense layers alone."""
    groups: Groups = []
    for scale, chosen in _by_rate(model, config.layer_decay):
        decayed, plain = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "scale": scale})
        groups.append({"params": plain, "weight_decay": 0.0, "scale": scale})
    return OPTIMIZERS[config.name](groups, config)


def _by_rate(model: nn.Module, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Parameters by the factor on their rate: 1 for the head, `decay` once more for each part before it (ULMFiT,
    Howard and Ruder, 2018).
    """
    left = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if decay == 1:
        return [(1.0, list(left.values()))]
    assert isinstance(model, Model)
    parts = []
    for part in reversed(model.trunk()):
        names = [name for name in left if name.startswith(f"{part}.")]
        parts += [[left.pop(name) for name in names]] if names else []
    return [(decay**i, chosen) for i, chosen in enumerate([list(left.values()), *parts])]


def rate(config: OptimConfig, step: int, warmup: int, total: int) -> float:
    """The factor on the learning rate at `step` of `total`: linear warm-up over `warmup` steps, then the schedule."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return SCHEDULES[config.schedule](config, (step - warmup) / max(1, total - warmup), step / total)


class Ema:
    """A second module whose weights follow the first: e <- e + (1 - d)(w - e).

    d is `decay`, and smaller at first, (1 + t) / (10 + t), so that the random start is soon forgotten.
    """

    def __init__(self, model: Model, decay: float):
        self.module: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow `model` after optimizer step `step` (from 0)."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, theirs = self.module.state_dict(), model.state_dict()
        floating = [k for k, v in mine.items() if v.is_floating_point()]
        torch._foreach_lerp_([mine[k] for k in floating], [theirs[k] for k in floating], share)
        for k in mine.keys() - set(floating):
            mine[k].copy_(theirs[k])


class Watch:
    """Notices numbers that are not finite without making the host wait for the device at every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[int], Tensor]] = []

    def __len__(self) -> int:
        return len(self.seen)

    def add(self, step: int, image_ids: list[int], values: Tensor) -> None:
        """Remember the values of a step, a vector on the device; nothing is read yet."""
        self.seen.append((step, image_ids, values))

    def first_bad(self) -> tuple[int, list[int], list[float]] | None:
        """The first step whose values are not all finite, with its images and values, or None; then forget all."""
        seen, self.seen = self.seen, []
        if not seen or torch.stack([values for _, _, values in seen]).isfinite().all():
            return None
        step, ids, values = next(s for s in seen if not s[2].isfinite().all())
        return step, ids, values.tolist()
