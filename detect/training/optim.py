"""The optimizer of a run: which parameters it has, in which groups."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from detect.config.optim import OptimConfig, with_defaults
from detect.models.base import Model
from detect.registry import REGISTRIES, parameters
from detect.training.optimizers import Groups


def build_optimizer(model: nn.Module, config: OptimConfig, more: Iterable[nn.Parameter] = ()) -> Optimizer:
    """The optimizer that `config` names, for the parameters of `model` that are not frozen.

    Weight decay is for the weights of convolutions and dense layers alone.

    Args:
        model: the model.
        config: optimizer and learning rates.
        more: further parameters, in groups of their own.
    """
    config, others = with_defaults(config), list(more)
    groups: Groups = []
    for scale, chosen in [*_by_rate(model, config.layer_decay), *([(1.0, others)] if others else [])]:
        decayed, plain = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "scale": scale})
        groups.append({"params": plain, "weight_decay": 0.0, "scale": scale})
    make = REGISTRIES["optimizer"][config.name]
    offered = {"model": model, "lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    made: Optimizer = make(groups, **{name: value for name, value in offered.items() if name in parameters(make)})
    return made


def _by_rate(model: nn.Module, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    """Group parameters by the factor on their learning rate (ULMFiT, Howard and Ruder, 2018).

    Returns:
        Pairs (factor, parameters): 1 for the head, then `decay` to the power of i for the i-th stage before it.
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
