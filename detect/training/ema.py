"""The moving average of a model's weights, which is what is evaluated and saved."""

from __future__ import annotations

import copy

import torch
from torch import nn

from detect.models.base import Model


class Ema:
    """A copy of a model whose weights are a moving average: e <- e + (1 - d)(w - e) after each step t.

    d is `decay`, but at first (1 + t) / (10 + t), so that the random initial weights are soon forgotten.

    Args:
        model: the model to follow; it is copied.
        decay: the decay, 0 to 1.
    """

    def __init__(self, model: Model, decay: float):
        self.module: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights of `model` after optimizer step `step`, from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        average, current = self.module.state_dict(), model.state_dict()
        floating = [name for name, value in average.items() if value.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in floating], [current[name] for name in floating], share)
        for name in average.keys() - set(floating):
            average[name].copy_(current[name])
