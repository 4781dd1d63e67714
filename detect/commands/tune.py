"""`detect tune`: search the settings of a training that are best on the validation set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from detect.config.constraints import Count, Natural, ReadWith
from detect.config.fields import ADVANCED
from detect.config.train import TrainConfig


@dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """Train many times with different settings, and find those that are best on the validation set.

    All options of `detect train` are those of every trial, but for the ones that --space varies. A trial is a run in a
    folder of its own, --out/trials/0007. The same command, started again, continues; started a second time meanwhile,
    here or with the same --storage on another machine, it joins. A trial whose process was killed is taken up from its
    checkpoint. The test set is never looked at.
    """

    out: str = "runs/tune"
    """Folder of the study."""
    space: str = ""
    """YAML file of the options to vary. A line for each: `optim.lr: {range: [1e-4, 1e-2], log: true}`; also `times`
    (factors on the default) and `choices`. Default: learning rate, weight decay, zoom, mosaic and box loss."""
    trials: Count = 30
    """Trials in all, of all processes. A larger number continues a finished study."""
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    """How settings are chosen. tpe learns from the trials before; grid takes every combination; cmaes needs the package
    cmaes."""
    pruner: Literal["median", "asha", "none"] = "median"
    """Which trials end early. Those below the median of the others at the same epoch, or by successive halving."""
    prune_after: Annotated[Natural, ReadWith("pruner", "median", "asha")] = 0
    """Epochs before which no trial ends early. Default: a quarter of all."""
    storage: str = ""
    """Database that several machines share, such as postgresql://user@host/name. Default: a file in --out."""
    confirm: Natural = 3
    """Seeds with which the best settings and those given are trained again at the end. They tell whether the gain is
    more than chance; 0: none."""
    confirm_epochs: Annotated[Natural, ADVANCED] = 0
    """Epochs of these runs. Default: as in the trials."""


def tune(config: TuneConfig) -> Path:
    """Tune; returns the file of the best settings, which `detect train --config` takes.

    Raises:
        UserError: a setting, the space, the data or the storage cannot be used, or Optuna is not installed.
    """
    from detect.tuning.tuner import tune as run

    return run(config)
