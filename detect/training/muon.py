"""Muon: momentum made orthogonal, for the kernels of convolutions."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from detect.training.optimizers import Groups

BLOCK = 64  # outputs of a kernel that Muon makes orthogonal together: all of a wide layer would cost as its passes do
STEP = 0.4  # root mean square of Muon's step, as a share of the rate


class Muon(torch.optim.AdamW):
    """Momentum made orthogonal (Muon; Jordan et al., 2024) for the groups that say so, AdamW for the others.

    Every direction of such a step is equally long, so that what is rare in the gradients is learned as soon as what is
    common. Steps are of one size whatever the shape (Liu et al., 2025), so that one rate and one decay serve both. A
    kernel (outputs, inputs, height, width) is taken as matrices (BLOCK of the outputs, all the rest).
    """

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float], weight_decay: float):
        super().__init__(groups, lr, betas, weight_decay=weight_decay, fused=True)
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


def kernels_apart(groups: Groups, model: nn.Module) -> Groups:
    """Pairs of parameter groups as triples: in front of each pair the kernels that Muon makes orthogonal.

    Muon is for convolutions without bias or groups: a normalization follows them, and what counts is their direction.
    A model without any keeps its pairs.
    """
    layers = [m for m in model.modules() if isinstance(m, _ConvNd) and m.bias is None and m.groups == 1]
    kernels = {id(layer.weight) for layer in layers}
    if not kernels:
        return groups
    apart: Groups = []
    for weights, rest in zip(groups[::2], groups[1::2], strict=True):
        turned = [p for p in weights["params"] if id(p) in kernels]
        others = [p for p in weights["params"] if id(p) not in kernels]
        apart += [{**weights, "params": turned, "orthogonal": True}, {**weights, "params": others}, rest]
    return apart
