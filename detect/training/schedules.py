"""Learning-rate schedules: how the rate falls after the warm-up.

A schedule is a function of how far the run is to the factor on the learning rate. Its further parameters are the
options of `OptimConfig` that it reads.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from detect.config.optim import OptimConfig
from detect.registry import REGISTRIES, parameters, register


class Progress(NamedTuple):
    """How far a run is.

    Args:
        decay: share of the steps after the warm-up that are done, 0 to 1.
        run: share of all steps that are done, 0 to 1.
        epochs: epochs since the warm-up.
    """

    decay: float
    run: float
    epochs: float


@register("schedule", "constant")
def constant(at: Progress) -> float:
    """The same rate to the end."""
    return 1.0


@register("schedule", "piecewise")
def piecewise(at: Progress, milestones: Sequence[float], gamma: float) -> float:
    """A factor `gamma` at each of the `milestones`, which are shares of the run."""
    return gamma ** bisect_right(sorted(milestones), at.run)


@register("schedule", "exponential")
def exponential(at: Progress, final: float, decay_epochs: float) -> float:
    """10^(-t / decay_epochs), or down to the share `final` at the end."""
    return 10 ** (-at.epochs / decay_epochs) if decay_epochs else final**at.decay


@register("schedule", "1/t")
def one_over_t(at: Progress, final: float, decay_epochs: float) -> float:
    """1 / (1 + t / decay_epochs), or down to the share `final` at the end."""
    return 1 / (1 + (at.epochs / decay_epochs if decay_epochs else (1 / final - 1) * at.decay))


@register("schedule", "cosine")
def cosine(at: Progress, final: float) -> float:
    """Half a period of a cosine, down to the share `final`."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * at.decay))


@register("schedule", "linear")
def linear(at: Progress, final: float) -> float:
    """A straight line down to the share `final`."""
    return 1 + (final - 1) * at.decay


def lr_factor(config: OptimConfig, step: int, warmup: int, total: int, steps_per_epoch: int = 1) -> float:
    """The factor on the learning rate at a step: it rises linearly in the warm-up, then follows the schedule.

    Args:
        config: the schedule and its options.
        step: number of the step, from 0.
        warmup: steps of the warm-up.
        total: steps of the whole run.
        steps_per_epoch: steps of an epoch.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = step - warmup
    schedule = REGISTRIES["schedule"][config.schedule]
    options = {name: getattr(config, name) for name in list(parameters(schedule))[1:]}
    return float(schedule(Progress(done / max(1, total - warmup), step / total, done / steps_per_epoch), **options))
