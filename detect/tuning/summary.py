"""What a study leaves behind: the best settings as a file for `detect train --config`, a page, and a few lines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from detect.commands.tune import TuneConfig
from detect.tuning.base_settings import short_settings, trial_config
from detect.tuning.confirm import BEST, GIVEN, Confirmed
from detect.tuning.page import write_page
from detect.tuning.study import TunedStudy, origin
from detect.utils.atomic_io import replace_text
from detect.utils.names import counted, say
from detect.utils.yaml_files import dump_yaml

SETTINGS = "best.yaml"
PAGE = "study.html"


def write_summary(config: TuneConfig, study: TunedStudy, metric: str, confirmed: Confirmed | None) -> Path:
    """Write best.yaml and study.html into --out, and print what came of the study.

    Args:
        config: the settings of the study.
        study: the study.
        metric: what was optimized; the smallest value with a minus before it.
        confirmed: what other seeds gave; None: nothing was tried.

    Returns:
        The file of the best settings.
    """
    out, best = Path(config.out), study.best()
    if best is not None:
        replace_text(out / SETTINGS, settings_text(config, study, best, metric))
    write_page(out / PAGE, config, study, metric, confirmed)
    say(counts(study.records()))
    if best is not None:
        say(f"best: trial {origin(best)}, {metric.removeprefix('-')} {best.value:.4f} on val: {out / SETTINGS}")
    if confirmed:
        say(verdict(confirmed, metric, best.value if best else None))
    say(f"page: {out / PAGE}")
    if best is not None and (confirmed or not config.confirm):
        say(f"next: detect train --config {shlex.quote(str(out / SETTINGS))} --epochs N --out FOLDER")
    return out / SETTINGS


def settings_text(config: TuneConfig, study: TunedStudy, best: FrozenTrial, metric: str) -> str:
    """The best settings as YAML, with a comment on where they are from."""
    settings = short_settings(trial_config(config, study.space, best.params))
    head = (
        f"# Trial {origin(best)} of {counted(len(study.records()), 'trial')}: {metric.removeprefix('-')} "
        f"{best.value:.4f} on val after at most {config.epochs} epochs, seed {config.seed}. "
        f"Varied: {', '.join(one.name for one in study.space)}.\n"
        "# Chosen as the best of many, it promises somewhat more than it will keep.\n"
    )
    return head + dump_yaml(settings)


def counts(records: list[FrozenTrial]) -> str:
    """One line on how many trials came to which end."""
    said = []
    for state, what in (
        (TrialState.COMPLETE, "trained to the end"),
        (TrialState.PRUNED, "pruned"),
        (TrialState.FAIL, "failed"),
        (TrialState.RUNNING, "running"),
        (TrialState.WAITING, "to be continued"),
    ):
        if number := sum(one.state == state for one in records):
            said.append(f"{number} {what}")
    return f"{counted(len(records), 'trial')}: {', '.join(said) or 'none yet'}"


def verdict(confirmed: Confirmed, metric: str, found: Any = None) -> str:
    """What the runs with other seeds say of the gain."""
    name, seeds = metric.removeprefix("-"), len(confirmed.values[BEST])
    if min(map(len, confirmed.values.values())) == 0:
        return "confirmation: no run of one side has ended well, so nothing is known of the gain"
    said = [f"{which} {confirmed.mean(which):.4f} ± {confirmed.deviation(which):.4f}" for which in (BEST, GIVEN)]
    difference, low, high = confirmed.difference()
    text = (
        f"confirmation with {counted(seeds, 'other seed')}, {confirmed.epochs} epochs: "
        f"{name} on val {', '.join(said)}; difference {difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}: "
    )
    better = high < 0 if metric.startswith("-") else low > 0
    text += "more than the noise of seeds" if better else "within the noise of seeds"
    if found is not None:
        text += f" (the study had found {found:.4f})"
    return text
