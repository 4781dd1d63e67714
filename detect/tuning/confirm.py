"""Is the gain more than chance? The best settings and those given, trained again with other seeds.

The best of many trials is partly the luckiest: its value is biased upwards. New seeds take the luck of the seed away;
what was chosen for the images of the validation set remains, and shows on a test set alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from detect.commands.tune import TuneConfig
from detect.config.train import TrainConfig
from detect.tuning.base_settings import trial_config
from detect.tuning.samplers import Grid, grid_of
from detect.tuning.space import Dimension
from detect.tuning.study import TunedStudy, open_study, origin
from detect.tuning.trial_run import PROGRAM
from detect.tuning.worker import Worker
from detect.utils.interrupt import Interrupt
from detect.utils.names import say

FOLDER = "confirm"
GIVEN, BEST = "given", "best"


@dataclass(frozen=True)
class Confirmed:
    """Values of the settings as given and of the best ones, each with the same seeds.

    Attributes:
        best: the number of the trial whose settings these are.
        epochs: those of a run.
        values: by "given" and "best", the value for each seed.
        folders: the folder of each run.
    """

    best: int
    epochs: int
    values: Mapping[str, Mapping[int, float]]
    folders: Mapping[str, str]

    def mean(self, which: str) -> float:
        """The mean over seeds."""
        return float(np.mean(list(self.values[which].values())))

    def deviation(self, which: str) -> float:
        """The standard deviation over seeds; NaN for a single one."""
        values = list(self.values[which].values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def difference(self) -> tuple[float, float, float]:
        """The gain of the best settings over those given, and its 95 % interval; see `welch`."""
        return welch(*(list(self.values[name].values()) for name in (BEST, GIVEN)))


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """The difference of two means and its 95 % interval by Welch's t; infinite where a side has fewer than two values.

    Args:
        a: values of one side.
        b: values of the other one.
    """
    from scipy.stats import t

    difference = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) < 2:
        return difference, float("-inf"), float("inf")
    parts = [float(np.var(one, ddof=1)) / len(one) for one in (a, b)]
    total = sum(parts)
    if total == 0:
        return difference, difference, difference
    freedom = total**2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True))
    half = float(t.ppf(0.975, freedom)) * total**0.5
    return difference, difference - half, difference + half


def confirm(
    config: TuneConfig, study: TunedStudy, metric: str, interrupt: Interrupt, program: Sequence[str] = PROGRAM
) -> Confirmed | None:
    """Train the best settings and those given with `--confirm` other seeds each; None where that is not to be done.

    The runs are the trials of a study of their own, a grid, which all processes share like the first one.
    """
    best = study.best()
    if not config.confirm or best is None:
        return None
    if not best.params or _is_given(config, study, best.params):
        say("no trial was better than the settings as given: there is nothing to confirm")
        return None
    epochs, seeds = config.confirm_epochs or config.epochs, [config.seed + 1 + i for i in range(config.confirm)]
    space = (
        Dimension("settings", "choices", choices=(GIVEN, BEST)),
        Dimension("seed", "choices", choices=tuple(seeds)),
    )
    name = f"{study.study.study_name} confirm {origin(best)} epochs {epochs}"
    grid, storage = grid_of(space), study.study._storage
    record = {"best": origin(best), "epochs": epochs}
    own = open_study(storage, name, metric, record, Grid(grid), optuna.pruners.NopPruner())
    folder = Path(config.out) / FOLDER / f"{origin(best):04d}-{epochs}"
    runs = TunedStudy(own, space, len(grid), folder, study.leases)

    def settings(trial: Trial) -> TrainConfig:
        params = best.params if trial.params["settings"] == BEST else {}
        own = {"seed": trial.params["seed"], "epochs": epochs, "out": str(runs.folder_of(origin(trial)))}
        return trial_config(config, study.space, params, **own)

    say(f"confirm: trial {origin(best)} and the settings as given, with {config.confirm} other seeds, {epochs} epochs")
    Worker(runs, settings, metric, interrupt, title="confirmation", prunes=False, program=program).work()
    return _collected(runs, origin(best), epochs)


def _is_given(config: TuneConfig, study: TunedStudy, params: Mapping[str, Any]) -> bool:
    """Whether the settings of a trial are those given."""
    return trial_config(config, study.space, params, out="") == trial_config(config, study.space, {}, out="")


def _collected(runs: TunedStudy, best: int, epochs: int) -> Confirmed:
    values: dict[str, dict[int, float]] = {GIVEN: {}, BEST: {}}
    folders = dict[str, str]()
    for one in runs.records():
        which, seed = one.params["settings"], int(one.params["seed"])
        folders[f"{which}, seed {seed}"] = str(runs.folder_of(origin(one)))
        if one.state == TrialState.COMPLETE and one.value is not None:
            values[which][seed] = one.value
    return Confirmed(best, epochs, values, folders)
