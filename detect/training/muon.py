"""Muon: orthogonalized momentum, for the kernels of convolutions."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from detect.training.optimizers import Groups

BLOCK = 64  # outputs orthogonalized together: all of a wide layer would take as long as its forward and backward pass
STEP = 0.4  # root mean square of a Muon step, as a share of the learning rate


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al., 2024) for the parameter groups marked "orthogonal", AdamW for the others.

    A Muon step is the momentum with all its singular values made about equal, so that rare directions of the gradient
    are learned as fast as common ones. Steps have one size whatever the shape (Liu et al., 2025), so that one learning
    rate and one weight decay suit both kinds of groups. A kernel (outputs, inputs, height, width) is split into
    matrices of BLOCK outputs by all the rest.
    """

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float], weight_decay: float):
        super().__init__(groups, lr, betas, weight_decay=weight_decay, fused=True)
        self._step_supports_amp_scaling = False  # GradScaler itself leaves out steps that overflow

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; the gradients are consumed."""
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._orthogonal_steps([p for p in group["params"] if p.grad is not None], group)
        super().step(closure)

    def _orthogonal_steps(self, kernels: list[Tensor], group: dict[str, Any]) -> None:
        """Update the kernels, and remove their gradients so that AdamW skips them."""
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in kernels:
            state, beta, grad = self.state[p], group["betas"][0], p.grad
            assert grad is not None  # as `step` has seen to it
            if not state:
                state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(p)  # AdamW's state has a step, too
            state["momentum"].lerp_(grad, 1 - beta)
            ahead = grad.lerp(state["momentum"], beta).flatten(1)  # Nesterov's momentum
            rows = BLOCK if len(ahead) % BLOCK == 0 else len(ahead)
            shapes[rows, ahead.shape[1]].append((p, ahead.reshape(-1, rows, ahead.shape[1])))
            p.grad = None
        for shape, pairs in shapes.items():  # matrices of one shape together: starting many small products takes long
            steps = orthogonal(torch.cat([matrices for _, matrices in pairs]))
            for (p, _), step in zip(pairs, steps.split([len(matrices) for _, matrices in pairs]), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step.reshape(p.shape), alpha=-STEP * max(shape) ** 0.5 * group["lr"])


def orthogonal(matrices: Tensor) -> Tensor:
    """Orthogonalize matrices: approximately U V^T of each U S V^T.

    Five Newton-Schulz steps bring all but tiny singular values to between 0.7 and 1.2. Each step multiplies from the
    left by a polynomial of X X^T. These commute, so that the steps are taken on the small X X^T alone, and X is
    multiplied once at the end.

    Args:
        matrices: (N, R, C).
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
    """Put the kernels that Muon orthogonalizes into groups of their own, each in front of the pair it comes from.

    Muon suits convolutions without bias or groups: a normalization follows them, so that only the direction of their
    weights matters.

    Args:
        groups: pairs of groups, weights of layers and then the rest (see `detect.training.optimizers`).
        model: the model that they are the parameters of.

    Returns:
        Triples of groups; the pairs themselves where the model has no such convolution.
    """
    layers = [m for m in model.modules() if isinstance(m, _ConvNd) and m.bias is None and m.groups == 1]
    kernels = {id(layer.weight) for layer in layers}
    if not kernels:
        return groups
    apart: Groups = []
    for weights, rest in zip(groups[::2], groups[1::2], strict=True):
        orthogonal = [p for p in weights["params"] if id(p) in kernels]
        others = [p for p in weights["params"] if id(p) not in kernels]
        apart += [{**weights, "params": orthogonal, "orthogonal": True}, {**weights, "params": others}, rest]
    return apart
