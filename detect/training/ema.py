"""The moving average of a model's weights, which is what is evaluated and saved."""

from __future__ import annotations

import copy

import torch
from torch import nn

from detect.models.base import Model


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
