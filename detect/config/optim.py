"""The options of the optimizer and its learning-rate schedule. What can be named there is registered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

from detect.config.constraints import Count, Range, Registered, Share
from detect.errors import UserError
from detect.registry import REGISTRIES, parameters


class OptimizerDefaults(NamedTuple):
    """The learning rate, momentum (None: the optimizer has none) and weight decay of an optimizer when unset."""

    lr: float
    momentum: float | None
    weight_decay: float


def optimizer_defaults(name: str) -> OptimizerDefaults:
    """The defaults of the optimizer called `name`: those of the function that is registered under it."""
    declared = parameters(REGISTRIES["optimizer"][name])
    return OptimizerDefaults(declared["lr"], declared.get("momentum"), declared.get("weight_decay", 0.0))


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule.

    Unset, learning rate, momentum and weight decay are the optimizer's own: {defaults}.
    """

    name: Annotated[str, Registered("optimizer")] = "muon"
    """Optimizer."""
    lr: Annotated[float | None, Range(1e-12)] = None
    """Learning rate at the end of the warm-up. Default: the optimizer's own."""
    momentum: Annotated[float | None, Range(0, 1)] = None
    """Momentum; for adam, adamw and muon the first beta. Default: the optimizer's own."""
    weight_decay: Annotated[float | None, Range(0)] = None
    """Weight decay: added to the gradient as L2 regularization (sgd to adam), or decoupled (adamw, muon). Default: the
    optimizer's own."""
    schedule: Annotated[str, Registered("schedule")] = "cosine"
    """How the learning rate falls after the warm-up."""
    final: Share = 0.01
    """Last learning rate as a share of `lr` (cosine, linear, exponential, 1/t)."""
    decay_epochs: Annotated[float, Range(0)] = 0.0
    """Constant C, in epochs after the warm-up, of lr * 10^(-t/C) (exponential) or lr / (1 + t/C) (1/t). 0: the C that
    ends at `final`."""
    warmup: Annotated[float, Range(0)] = 3.0
    """Epochs in which the learning rate rises to `lr`; at most a third of the run."""
    milestones: list[Share] = field(default_factory=lambda: [0.6, 0.85])
    """Shares of the run at which the piecewise schedule multiplies the learning rate by `gamma`."""
    gamma: Share = 0.1
    """Factor on the learning rate at each milestone (piecewise)."""
    clip: Annotated[float, Range(0)] = 10.0
    """Largest norm of the gradient; longer gradients are scaled down to it. 0: no limit."""
    accumulate: Count = 1
    """Batches whose gradients make one step: batches that do not fit into memory at once."""
    layer_decay: Annotated[float, Range(1e-6, 1)] = 1.0
    """Factor on the learning rate for each stage of the network from the head back; below 1 for fine-tuning."""
    ema: Share = 0.999
    """Decay of the moving average of the weights, which is what is evaluated and saved."""


OptimConfig.__doc__ = (OptimConfig.__doc__ or "").format(
    defaults="; ".join(
        f"{name} {d.lr:g}, {'-' if d.momentum is None else f'{d.momentum:g}'}, {d.weight_decay:g}"
        for name, d in ((name, optimizer_defaults(name)) for name in REGISTRIES["optimizer"])
    )
)


def with_defaults(config: OptimConfig) -> OptimConfig:
    """`config` with the defaults of its optimizer where nothing is set.

    Raises:
        UserError: the schedule would reach a learning rate of 0 at once.
    """
    if config.schedule in ("exponential", "1/t") and not config.final and not config.decay_epochs:
        raise UserError(
            f"--optim.final 0: a rate that falls by {config.schedule} never reaches 0; give a share above 0, "
            "or --optim.decay_epochs"
        )
    unset = {k: v for k, v in optimizer_defaults(config.name)._asdict().items() if getattr(config, k) is None}
    return replace(config, **unset)


def refuse_unread(config: OptimConfig) -> None:
    """Check that the optimizer and the schedule read what was set.

    Raises:
        UserError: an option is set that they have no parameter for; the line names those that have.
    """
    default = OptimConfig()
    for kind, chooser, options in (
        ("optimizer", "name", ("momentum",)),
        ("schedule", "schedule", ("final", "decay_epochs", "milestones", "gamma")),
    ):
        for option in options:
            readers = [name for name, entry in REGISTRIES[kind].items() if option in parameters(entry)]
            if getattr(config, option) != getattr(default, option) and getattr(config, chooser) not in readers:
                raise UserError(
                    f"--optim.{option} is read with --optim.{chooser} {' or '.join(readers)} alone: "
                    "leave it out, or give that"
                )
