"""One trial: its training in a process of its own, watched from here epoch by epoch.

A process for each trial, because what one leaves behind (memory of the allocator and the GPU, switches of torch, the
number of threads) must not reach the next, because the system that runs out of memory then kills the trial and not the
study, and because a trial is bit for bit what `detect train` makes of its settings.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from detect import plugins
from detect.config.train import TrainConfig
from detect.errors import UserError
from detect.report.run_files import read_rows
from detect.tuning.base_settings import plain_settings
from detect.tuning.failure import LOG, reason_of
from detect.tuning.lease import BEAT_SECONDS
from detect.tuning.study import BEAT, EPOCHS, KILLED, PLACE, TunedStudy, origin
from detect.utils.atomic_io import replace_text
from detect.utils.interrupt import Interrupt
from detect.utils.yaml_files import dump_yaml

POLL = 0.2  # seconds between two looks at a training
PROGRAM = (sys.executable, "-m", "detect.tuning.trial_process")


class Interrupted(KeyboardInterrupt):
    """An end was asked for; the trial is saved and queued."""


class Lost(Exception):
    """Another process has taken the trial: this one had shown no sign of life."""


@dataclass
class TrialRun:
    """The run of one trial.

    Attributes:
        study: the study.
        trial: Optuna's trial.
        config: the settings of the run.
        metric: what is optimized; the smallest value with a minus before it.
        interrupt: says whether an end was asked for.
        prunes: whether the study may end the trial early.
        program: the command that trains in the folder which is its first argument.
    """

    study: TunedStudy
    trial: Trial
    config: TrainConfig
    metric: str
    interrupt: Interrupt
    prunes: bool = True
    program: Sequence[str] = PROGRAM

    def __post_init__(self) -> None:
        self.folder = self.study.folder_of(origin(self.trial))
        self.reported = 0
        self.beats, self.beaten = 0, time.monotonic()

    def run(self) -> str:
        """Train to the end of the trial, and tell the study; returns one line on what came of it.

        Raises:
            Interrupted: an end was asked for.
        """
        write_settings(self.folder, self.config)
        self.trial.set_user_attr(PLACE, str(self.folder.resolve()))
        self._report(judge_all=False)
        try:
            while True:
                status, pruned = self._train()
                if pruned:
                    return self._tell_pruned()
                if status == 0:
                    return self._tell_complete()
                if self.interrupt.asked:
                    self.study.release(self.trial)
                    raise Interrupted
                killed = self.trial.user_attrs.get(KILLED, 0) + 1
                self.trial.set_user_attr(KILLED, killed)
                if not _was_killed(status) or killed > 1:
                    break
        except (Lost, UpdateFinishedTrialError):
            return "taken up by another process, because this one had shown no sign of life"
        return self._tell_failed(reason_of(status, self.folder))

    def _train(self) -> tuple[int, bool]:
        """Run the training until it ends, is pruned or has to stop: its exit status, and whether it was pruned."""
        log = os.open(self.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            command = [*self.program, str(self.folder), str(os.getpid())]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        finally:
            os.close(log)
        pruned = False
        try:
            while process.poll() is None and not pruned and not self.interrupt.asked:
                time.sleep(POLL)
                pruned = self._report()
                self._beat()
            pruned = pruned or self._report()
        finally:
            _end(process)
        if _was_killed(process.returncode) and not pruned:
            self._wait_for_interrupt()
        return process.returncode, pruned

    def _wait_for_interrupt(self) -> None:
        """Ctrl-C reaches both processes, and the training may have ended before this one has heard of it."""
        for _ in range(10):
            if self.interrupt.asked:
                break
            time.sleep(POLL / 2)

    def _report(self, judge_all: bool = True) -> bool:
        """Tell the study the epochs that have ended since the last time. Returns whether the trial is to be pruned.

        Args:
            judge_all: whether the trial may be pruned after each of them, in their order; else only after the last.
        """
        rows = self._rows()
        for row in rows[self.reported :]:
            self.reported += 1
            self.trial.report(self._value(row), self.reported)
            if self.prunes and (judge_all or row is rows[-1]) and self.trial.should_prune():
                return True
        return False

    def _rows(self) -> list[dict[str, Any]]:
        """The epochs that have ended: what the training has written so far."""
        with suppress(UserError):  # it is being replaced, on a system where that takes a moment
            return read_rows(self.folder / "metrics.jsonl")
        return []

    def _value(self, row: dict[str, Any]) -> float:
        return float(row[self.metric.removeprefix("-")])

    def _beat(self) -> None:
        """Give a sign of life now and then.

        Raises:
            Lost: another process has taken the trial.
        """
        if time.monotonic() - self.beaten < BEAT_SECONDS:
            return
        self.beats, self.beaten = self.beats + 1, time.monotonic()
        try:
            self.trial.set_user_attr(BEAT, self.beats)
        except UpdateFinishedTrialError:
            raise Lost from None

    def _tell_pruned(self) -> str:
        self.trial.set_user_attr(EPOCHS, self.reported)
        self.study.study.tell(self.trial, state=TrialState.PRUNED)
        return f"pruned after epoch {self.reported}: {self._shown(self._values()[-1])}"

    def _tell_complete(self) -> str:
        values = self._values()
        if not values or not all(value == value for value in values):
            return self._tell_failed(f"{self.metric.removeprefix('-')} is not a number in every epoch")
        best = min(values) if self.metric.startswith("-") else max(values)
        self.trial.set_user_attr(EPOCHS, len(values))
        self.study.study.tell(self.trial, best)
        return f"{self._shown(best)} (epoch {values.index(best) + 1} of {len(values)})"

    def _tell_failed(self, reason: str) -> str:
        self.trial.set_user_attr(EPOCHS, self.reported)
        self.study.fail(self.trial, reason)
        return f"failed: {reason}"

    def _values(self) -> list[float]:
        return [self._value(row) for row in self._rows()]

    def _shown(self, value: float) -> str:
        return f"{self.metric.removeprefix('-')} {value:.4f}"


def write_settings(folder: Path, config: TrainConfig) -> None:
    """Write config.yaml, from which the run is begun and continued."""
    values = {**({"plugin": plugins.loaded()} if plugins.loaded() else {}), **plain_settings(config)}
    replace_text(folder / "config.yaml", dump_yaml(values))


def _was_killed(status: int) -> bool:
    """Whether a signal has ended a process, one that it may have handled by saving first."""
    return status < 0 or status in (129, 130, 143)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a training save and end."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait()
    except BaseException:  # a second request to stop
        process.kill()
        process.wait()
        raise


def pruner_of(name: str, after: int) -> optuna.pruners.BasePruner:
    """What ends trials that are not promising.

    Args:
        name: "median": those below the median of the others at the same epoch; "asha": successive halving, which goes
            on with the best third after `after` epochs, the best third of these after three times as many, and so on
            (Li et al., 2020); "none".
        after: epochs before which no trial is ended.
    """
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=after)
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, after), reduction_factor=3)
    return optuna.pruners.NopPruner()
