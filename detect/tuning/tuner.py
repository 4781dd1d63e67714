"""`detect tune` from its first check to its page."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from detect.commands.tune import TuneConfig
from detect.config.train import with_task
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.tasks import get_task
from detect.tuning.base_settings import settings_record, trial_config
from detect.tuning.space import Space, as_plain, default_values, read_space
from detect.utils.interrupt import Interrupt
from detect.utils.names import counted, say

try:
    import optuna  # noqa: F401
except ImportError as missing:
    raise UserError("detect tune needs Optuna: pip install 'gridhead[tune]'") from missing

from detect.tuning.confirm import confirm
from detect.tuning.samplers import grid_of, make_sampler
from detect.tuning.storage import FILE, open_storage, quiet_optuna, talking_to, without_password
from detect.tuning.study import TunedStudy, open_study
from detect.tuning.summary import write_summary
from detect.tuning.trial_run import PROGRAM, Interrupted, pruner_of
from detect.tuning.worker import Worker

TRIALS = "trials"  # the folder of their runs


def tune(config: TuneConfig, program: Sequence[str] = PROGRAM) -> Path:
    """Run the trials that are missing, confirm the best, and write the summary.

    Args:
        config: the settings of the study and of its runs.
        program: the command that trains in the folder which is its first argument.

    Returns:
        The file of the best settings.

    Raises:
        UserError: something cannot be used; see `detect.commands.tune.tune`.
        KeyboardInterrupt: an end was asked for; everything is saved.
    """
    quiet_optuna()
    _require_search(config)
    space, out = read_space(config.space, config), Path(config.out)
    record = {"space": as_plain(space), **settings_record(config), **_data_record(config)}
    record |= {"sampler": config.sampler, "pruner": config.pruner, "prune_after": config.prune_after}
    _require_own_folder(out)
    with talking_to(config.storage), closing(Interrupt()) as interrupt:
        study = _open(config, space, record)
        metric = get_task(with_task(config).task).metric
        before = len(study.records())
        begun = f"continues with {counted(before, 'trial')}" if before else "begins"
        say(f"the study {study.study.study_name} {begun}: {counted(study.trials, 'trial')} of {config.epochs} epochs")
        worker = Worker(study, lambda trial: _trial_settings(config, study, trial), metric, interrupt, program=program)
        try:
            worker.work()
            confirmed = confirm(config, study, metric, interrupt, program)
        except Interrupted:
            write_summary(config, study, metric, None)
            raise KeyboardInterrupt(_how_to_go_on(config)) from None
        return write_summary(config, study, metric, confirmed)


def _require_search(config: TuneConfig) -> None:
    """Check what makes no sense for a study."""
    if config.resume or config.resume_anyway:
        raise UserError("detect tune continues a study by itself: start the same command again, without --resume")
    if config.find_lr:
        raise UserError("--find-lr tries learning rates in one short run: use it with detect train")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("detect tune starts its trials itself: start it once for each GPU, without torchrun")


def _data_record(config: TuneConfig) -> dict[str, str]:
    """What the training and the validation annotations are, wherever a machine has them.

    Raises:
        UserError: there is no validation set, or it shares images with the test set.
    """
    from detect.training.run_record import fingerprint

    task = get_task(with_task(config).task)
    found = splits(config.data, task.image_level_labels, config.allow_outside)
    if missing := [name for name in ("train", "val") if name not in found]:
        raise UserError(
            f"{config.data} has no split {' and '.join(map(repr, missing))} (it has: {', '.join(found)}): a study "
            "chooses on val, never on test, so that the test set stays unseen: set aside a part of train as val"
        )
    sets = {
        name: load_data(config.data, name, config.skip_bad, task.image_level_labels, config.allow_outside)
        for name in ("train", "val", "test")
        if name in found
    }
    if "test" in sets:
        images = [{str(one.image_path(i)) for i in range(len(one))} for one in (sets["val"], sets["test"])]
        if both := images[0] & images[1]:
            raise UserError(
                f"{config.data}: val and test share {counted(len(both), 'image')}, such as {min(both)}: "
                "what is tuned on val would then have seen test: part them"
            )
    return {f"{name} annotations": fingerprint(sets[name]) for name in ("train", "val")}


def _require_own_folder(out: Path) -> None:
    """Raise a UserError where the folder holds something, but no study."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: choose another --out")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    if names and not names & {FILE, TRIALS}:
        raise UserError(f"{out} holds something, such as {min(names)}, but no study: choose another --out")
    out.mkdir(parents=True, exist_ok=True)


def _open(config: TuneConfig, space: Space, record: dict[str, Any]) -> TunedStudy:
    """The study of this command."""
    first = {} if config.sampler == "grid" else default_values(space, config)
    if not first and config.sampler != "grid":
        say("the settings as given lie outside of the space: no trial has exactly them", sys.stderr)
    sampler = make_sampler(config.sampler, config.seed, space, first)
    pruner = pruner_of(config.pruner, config.prune_after or config.epochs // 4)
    out, trials = Path(config.out), config.trials
    if config.sampler == "grid":
        trials = min(trials, len(grid_of(space)))
    metric = get_task(with_task(config).task).metric
    name = out.resolve().name
    study = open_study(open_storage(config.storage, out), name, metric, record, sampler, pruner)
    return TunedStudy(study, space, trials, out / TRIALS)


def _trial_settings(config: TuneConfig, study: TunedStudy, trial: Any) -> Any:
    from detect.tuning.study import origin

    folder = study.folder_of(origin(trial))
    return trial_config(config, study.space, trial.params, out=str(folder))


def _how_to_go_on(config: TuneConfig) -> str:
    storage = f" (storage {without_password(config.storage)})" if config.storage else ""
    return (
        f"saved in {shlex.quote(config.out)}{storage}: the same command goes on; so far: "
        f"{Path(config.out) / 'study.html'}"
    )
