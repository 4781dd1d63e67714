"""The options of the optimizer and its learning-rate schedule. What can be named there is registered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

from detect.config.constraints import Count, Range, Registered, Share
from detect.config.fields import ADVANCED
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
    """Optimizer and learning-rate schedule."""

    name: Annotated[str, Registered("optimizer")] = "muon"
    """Optimizer."""
    lr: Annotated[float | None, Range(1e-12)] = None
    """Learning rate after the warm-up. Default: the optimizer's own."""
    momentum: Annotated[float | None, Range(0, 1)] = None
    """Momentum; adam, adamw, muon: first beta. Default: the optimizer's own."""
    weight_decay: Annotated[float | None, Range(0)] = None
    """Weight decay. Added to the gradient as L2 regularization (sgd to adam), or decoupled (adamw, muon). Default: the
    optimizer's own."""
    schedule: Annotated[str, Registered("schedule")] = "cosine"
    """Learning-rate schedule after the warm-up."""
    final: Share = 0.01
    """Last learning rate, as a share of lr. For cosine, linear, exponential and 1/t."""
    decay_epochs: Annotated[float, Range(0), ADVANCED] = 0.0
    """Constant C, in epochs after the warm-up, of lr * 10^(-t/C) (exponential) or lr / (1 + t/C) (1/t). 0: the C that
    ends at `final`."""
    warmup: Annotated[float, Range(0)] = 3.0
    """Warm-up, in epochs. The learning rate rises to lr; at most a third of the run."""
    milestones: Annotated[list[Share], ADVANCED] = field(default_factory=lambda: [0.6, 0.85])
    """Shares of the run at which the piecewise schedule multiplies the learning rate by `gamma`."""
    gamma: Annotated[Share, ADVANCED] = 0.1
    """Factor on the learning rate at each milestone (piecewise)."""
    clip: Annotated[float, Range(0)] = 10.0
    """Largest norm of the gradient; 0: no limit. Longer gradients are scaled down to it."""
    accumulate: Count = 1
    """Batches whose gradients make one step. For batches that do not fit into memory at once."""
    layer_decay: Annotated[float, Range(1e-6, 1), ADVANCED] = 1.0
    """Factor on the learning rate for each stage of the network from the head back; below 1 for fine-tuning."""
    ema: Share = 0.999
    """Decay of the moving average of the weights. The average is what is evaluated and saved."""


def with_defaults(config: OptimConfig) -> OptimConfig:
    """`config` with the defaults of its optimizer where nothing is set.

    Raises:
        UserError: the schedule would reach a learning rate of 0 at once.
    """
    if config.schedule in ("exponential", "1/t") and not config.final and not config.decay_epochs:
        raise UserError(
            f"--optim.final 0: a rate that falls by {config.schedule} never reaches 0; give a share above 0, "
            "or --optim.decay-epochs"
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
                    f"--optim.{option.replace('_', '-')} is read with --optim.{chooser} {' or '.join(readers)} alone: "
                    "leave it out, or give that"
                )
