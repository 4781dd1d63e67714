"""Optimizers, learning-rate schedules and the moving average of weights."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from detect.config import OptimConfig, with_defaults
from detect.models.base import Model

Groups = list[dict[str, Any]]

BLOCK = 64  # outputs of a kernel that Muon makes orthogonal together: all of a wide layer would cost as its passes do
STEP = 0.4  # root mean square of Muon's step, as a share of the rate


class Muon(torch.optim.AdamW):
    """Momentum made orthogonal (Muon; Jordan et al., 2024) for the groups that say so, AdamW for the others.

    Every direction of such a step is equally long, so that what is rare in the gradients is learned as soon as what is
    common. Steps are of one size whatever the shape (Liu et al., 2025), so that one rate and one decay serve both. A
    kernel (outputs, inputs, height, width) is taken as matrices (BLOCK of the outputs, all the rest).
    """

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float]):
        super().__init__(groups, lr, betas, fused=True)
        self._step_supports_amp_scaling = False  # a step with an overflow is GradScaler's to leave out

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; the gradients are used up."""
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._orthogonal_steps([p for p in group["params"] if p.grad is not None], group)
        super().step(closure)

    def _orthogonal_steps(self, kernels: list[Tensor], group: dict[str, Any]) -> None:
        """The updates of `kernels`, whose gradients are then gone: AdamW has nothing to do there."""
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in kernels:
            state, beta, grad = self.state[p], group["betas"][0], p.grad
            assert grad is not None  # as `step` has seen to it
            if not state:
                state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(p)  # AdamW loads a step
            state["momentum"].lerp_(grad, 1 - beta)
            ahead = grad.lerp(state["momentum"], beta).flatten(1)  # Nesterov's
            rows = BLOCK if len(ahead) % BLOCK == 0 else len(ahead)
            shapes[rows, ahead.shape[1]].append((p, ahead.reshape(-1, rows, ahead.shape[1])))
            p.grad = None
        for shape, pairs in shapes.items():  # matrices of one shape together: many small products take long to start
            steps = orthogonal(torch.cat([matrices for _, matrices in pairs]))
            for (p, _), step in zip(pairs, steps.split([len(matrices) for _, matrices in pairs]), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step.reshape(p.shape), alpha=-STEP * max(shape) ** 0.5 * group["lr"])


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of each (N, R, C) = U S V^T: five Newton-Schulz steps bring all but tiny S to 0.7 .. 1.2.

    Each step multiplies by a polynomial of X X^T from the left. They all commute, so that the steps are taken on the
    small X X^T alone, and X is multiplied once at the end.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram, whole = x @ x.mT, torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    for _ in range(5):
        factor = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        factor.diagonal(dim1=1, dim2=2).add_(3.4445)
        gram, whole = factor @ gram @ factor, factor @ whole
    x = whole @ x
    return x.mT if tall else x


class Momentum(torch.optim.SGD):
    """SGD whose momentum begins at zero for every parameter, also for one that gets its first gradient late.

    torch's fused step takes momenta of all parameters or of none. Zero is what the first step amounts to anyway.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if p.grad is not None and self.state[p].get("momentum_buffer") is None:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        super().step(closure)


# Of parameter groups, learning rate and momentum. Weight decay is the groups' own.
OPTIMIZERS: dict[str, Callable[[Groups, float, float], torch.optim.Optimizer]] = {
    "sgd": lambda groups, lr, _: torch.optim.SGD(groups, lr, fused=True),
    "momentum": lambda groups, lr, m: Momentum(groups, lr, m, fused=True),
    "nesterov": lambda groups, lr, m: Momentum(groups, lr, m, nesterov=m > 0, fused=True),
    "adagrad": lambda groups, lr, _: torch.optim.Adagrad(groups, lr),
    "rmsprop": lambda groups, lr, m: torch.optim.RMSprop(groups, lr, momentum=m),
    "adam": lambda groups, lr, m: torch.optim.Adam(groups, lr, (m, 0.999), fused=True),
    "adamw": lambda groups, lr, m: torch.optim.AdamW(groups, lr, (m, 0.999), fused=True),
    "muon": lambda groups, lr, m: Muon(groups, lr, (m, 0.999)),
}


class Progress(NamedTuple):
    """How far a run is: shares of the run after the warm-up (`decay`) and with it (`run`), epochs after the warm-up."""

    decay: float
    run: float
    epochs: float


def _exponential(c: OptimConfig, at: Progress) -> float:
    return 10 ** (-at.epochs / c.decay_epochs) if c.decay_epochs else c.final**at.decay


def _one_over_t(c: OptimConfig, at: Progress) -> float:
    return 1 / (1 + (at.epochs / c.decay_epochs if c.decay_epochs else (1 / c.final - 1) * at.decay))


SCHEDULES: dict[str, Callable[[OptimConfig, Progress], float]] = {
    "constant": lambda c, at: 1.0,
    "piecewise": lambda c, at: c.gamma ** bisect_right(sorted(c.milestones), at.run),
    "exponential": _exponential,
    "1/t": _one_over_t,
    "cosine": lambda c, at: c.final + (1 - c.final) * 0.5 * (1 + math.cos(math.pi * at.decay)),
    "linear": lambda c, at: 1 + (c.final - 1) * at.decay,
}


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer named in `config`. Weight decay is for weights of convolutions and dense layers alone.

    Muon is for convolutions without bias or groups: a normalization follows them, and what counts is their direction.
    """
    config = with_defaults(config)
    layers = [m for m in model.modules() if isinstance(m, _ConvNd) and m.bias is None and m.groups == 1]
    kernels = {id(layer.weight) for layer in layers} if config.name == "muon" else set()
    groups: Groups = []
    for scale, chosen in _by_rate(model, config.layer_decay):
        if kernels:
            turned = [p for p in chosen if id(p) in kernels]
            groups.append({"params": turned, "weight_decay": config.weight_decay, "scale": scale, "orthogonal": True})
        rest = [p for p in chosen if id(p) not in kernels]
        decayed, plain = [p for p in rest if p.ndim > 1], [p for p in rest if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "scale": scale})
        groups.append({"params": plain, "weight_decay": 0.0, "scale": scale})
    assert config.lr is not None
    return OPTIMIZERS[config.name](groups, config.lr, config.momentum or 0.0)


def _by_rate(model: nn.Module, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Parameters by the factor on their rate: 1 for the head, `decay` once more for each part before it (ULMFiT,
    Howard and Ruder, 2018).
    """
    left = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if decay == 1:
        return [(1.0, list(left.values()))]
    assert isinstance(model, Model)
    parts = []
    for part in reversed(model.backbone_stages()):
        names = [name for name in left if name.startswith(f"{part}.")]
        parts += [[left.pop(name) for name in names]] if names else []
    return [(decay**i, chosen) for i, chosen in enumerate([list(left.values()), *parts])]


def rate(config: OptimConfig, step: int, warmup: int, total: int, epoch: int = 1) -> float:
    """The factor on the learning rate at `step` of `total`: linear warm-up over `warmup` steps, then the schedule.

    `epoch`: steps of an epoch.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = step - warmup
    return SCHEDULES[config.schedule](config, Progress(done / max(1, total - warmup), step / total, done / epoch))


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
