"""The work of one process on a study: trial after trial, until there are as many as there are to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, Trial, TrialState

from detect.config.train import TrainConfig
from detect.errors import UserError
from detect.tuning.failure import LOG
from detect.tuning.study import LEASE, PLACE, REASON, TunedStudy, origin
from detect.tuning.trial_run import PROGRAM, Interrupted, TrialRun
from detect.utils.interrupt import Interrupt
from detect.utils.names import counted, say

WAIT = 2.0  # seconds between two looks at trials of other processes
ALL_FAILED = 3  # trials after which a study ends in which every one has failed


@dataclass
class Worker:
    """Runs trials of a study.

    Attributes:
        study: the study.
        settings: the settings of a trial's run.
        metric: what is optimized; the smallest value with a minus before it.
        interrupt: says whether an end was asked for.
        title: what a trial is called in messages.
        prunes: whether trials may be ended early.
        program: the command that trains.
    """

    study: TunedStudy
    settings: Callable[[Trial], TrainConfig]
    metric: str
    interrupt: Interrupt
    title: str = "trial"
    prunes: bool = True
    program: Sequence[str] = PROGRAM

    def work(self) -> None:
        """Run trials, and wait for those of other processes, until all have ended.

        Raises:
            Interrupted: an end was asked for; the present trial is saved.
            UserError: every one of the first trials has failed.
        """
        told = False
        while not self.study.finished():
            if self.interrupt.asked:
                raise Interrupted
            trial = self.study.next()
            if trial is not None:
                self._run(trial)
                told = False
            elif not self.study.finished():
                if not told:
                    say(self._waiting(), flush=True)
                told = True
                time.sleep(WAIT)
        self._require_success()

    def _run(self, trial: Trial) -> None:
        number = origin(trial)
        try:
            config = self.settings(trial)
        except UserError as error:  # values that are allowed each by itself, but not together
            self.study.fail(trial, str(error))
            return say(f"{self.title} {number}: failed: {error}", flush=True)
        folder = self.study.folder_of(number)
        again = " (continued)" if (folder / "last.ckpt").exists() else ""
        values = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
        say(f"{self.title} {number}{again}: {values}", flush=True)
        run = TrialRun(self.study, trial, config, self.metric, self.interrupt, self.prunes, self.program)
        said = run.run()
        best = self.study.best()
        beaten = (
            f"; the best is {best.value:.4f}, {self.title} {origin(best)}" if best and best.value is not None else ""
        )
        say(f"{self.title} {number}: {said}{beaten}", flush=True)
        self._require_success()
        return None

    def _require_success(self) -> None:
        """Raise a UserError where nothing but failures is to be expected."""
        ended = [one for one in self.study.records() if one.state.is_finished()]
        failed = [one for one in ended if one.state == TrialState.FAIL and REASON in one.user_attrs]
        if len(failed) == len(ended) >= min(ALL_FAILED, self.study.trials):
            last = failed[-1]
            where = f"{last.user_attrs.get(PLACE, '')}/{LOG}"
            raise UserError(
                f"all of {counted(len(failed), self.title)} failed, the last so: {last.user_attrs[REASON]} ({where}): "
                "mend the cause, and start again with another --out"
            )

    def _waiting(self) -> str:
        where = sorted({_place(one) for one in self.study.running()})
        return f"waiting for {counted(len(self.study.running()), self.title)} of {', '.join(where)}"


def _place(record: FrozenTrial) -> str:
    lease = record.user_attrs.get(LEASE) or {}
    return f"process {lease.get('process', '?')} on {lease.get('name', 'another machine')}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
