"""Optimizers by name.

An optimizer is a function of parameter groups and, by keyword, any of `lr`, `momentum`, `weight_decay` and `model`; the
defaults of the first three are those of a run that sets nothing. The groups come in pairs, the weights of layers and
then biases and normalizations; each has a `weight_decay` of its own, and a `scale` on the learning rate, which the
training loop sets before every step. Torch is imported late, so that `--help` can tell the defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detect.registry import register

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Groups = list[dict[str, Any]]


@register("optimizer", "sgd")
def sgd(groups: Groups, lr: float = 0.1, weight_decay: float = 0.0) -> Optimizer:
    """Stochastic gradient descent without momentum."""
    from torch.optim import SGD

    return SGD(groups, lr, weight_decay=weight_decay, fused=True)


@register("optimizer", "momentum")
def momentum(groups: Groups, lr: float = 0.02, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Stochastic gradient descent with heavy-ball momentum."""
    from detect.training.momentum import Momentum

    return Momentum(groups, lr, momentum, weight_decay=weight_decay, fused=True)


@register("optimizer", "nesterov")
def nesterov(groups: Groups, lr: float = 0.02, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Stochastic gradient descent with Nesterov's momentum."""
    from detect.training.momentum import Momentum

    return Momentum(groups, lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=True)


@register("optimizer", "adagrad")
def adagrad(groups: Groups, lr: float = 0.01, weight_decay: float = 0.0) -> Optimizer:
    """Steps divided by the root of the sum of all squared gradients (Duchi et al., 2011)."""
    from torch.optim import Adagrad

    return Adagrad(groups, lr, weight_decay=weight_decay)


@register("optimizer", "rmsprop")
def rmsprop(groups: Groups, lr: float = 0.001, momentum: float = 0.0, weight_decay: float = 0.0) -> Optimizer:
    """Steps divided by a moving root mean square of the gradients."""
    from torch.optim import RMSprop

    return RMSprop(groups, lr, momentum=momentum, weight_decay=weight_decay)


@register("optimizer", "adam")
def adam(groups: Groups, lr: float = 0.002, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Adam (Kingma and Ba, 2015); `momentum` is its first beta."""
    from torch.optim import Adam

    return Adam(groups, lr, (momentum, 0.999), weight_decay=weight_decay, fused=True)


@register("optimizer", "adamw")
def adamw(groups: Groups, lr: float = 0.002, momentum: float = 0.9, weight_decay: float = 0.05) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); `momentum` is its first beta."""
    from torch.optim import AdamW

    return AdamW(groups, lr, (momentum, 0.999), weight_decay=weight_decay, fused=True)


@register("optimizer", "muon")
def muon(
    groups: Groups, model: nn.Module, lr: float = 0.002, momentum: float = 0.9, weight_decay: float = 0.05
) -> Optimizer:
    """Muon (Jordan et al., 2024) for kernels of convolutions, AdamW for the rest; `momentum` is the first beta."""
    from detect.training.muon import Muon, kernels_apart

    return Muon(kernels_apart(groups, model), lr, (momentum, 0.999), weight_decay=weight_decay)
