"""A study: its trials as several processes share them, which one to run next, and what has come of each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from detect.errors import UserError
from detect.tuning.lease import Leases, own_lease
from detect.tuning.space import Space

Direction = Literal["minimize", "maximize"]
# Notes that a trial carries in the storage.
ORIGIN = "origin"  # the number of the trial that it takes up
LEASE = "lease"  # who runs it
BEAT = "beat"  # the count of signs of life
REASON = "reason"  # why it failed
SURPLUS = "surplus"  # it was begun beside the last one, by another process
KILLED = "killed"  # how often its training was killed
EPOCHS = "epochs"  # epochs that were trained
PLACE = "place"  # machine and folder of its run


@dataclass
class TunedStudy:
    """A study in a storage that other processes may share.

    A record of Optuna's that was left by a dead process is ended, and another one with the same settings queued, which
    names the first as its origin. Both steps are atomic, so that one process at most takes a trial up. What is called a
    trial here is the latest record of each origin, under the origin's number.

    Attributes:
        study: Optuna's study.
        space: the options that are varied.
        trials: how many trials there are to be.
        folder: where the folders of the trials are.
        leases: what is known of the processes that run trials.
    """

    study: optuna.Study
    space: Space
    trials: int
    folder: Path
    leases: Leases = field(default_factory=Leases)

    def records(self) -> list[FrozenTrial]:
        """The trials, each by its latest record, in their order."""
        latest: dict[int, FrozenTrial] = {}
        for one in self.study.get_trials(deepcopy=False):
            if not one.user_attrs.get(SURPLUS):
                latest[origin(one)] = one
        return list(latest.values())

    def next(self) -> Trial | None:
        """The trial to run now: one that was left by a dead process, or a new one; None where there is none."""
        self._release_dead()
        records = self.records()
        if not any(one.state == TrialState.WAITING for one in records) and len(records) >= self.trials:
            return None
        trial = self.study.ask({one.name: one.distribution() for one in self.space})
        others = [one for one in self.records() if origin(one) < trial.number]
        if ORIGIN not in trial.user_attrs and len(others) >= self.trials:  # another process was quicker
            trial.set_user_attr(SURPLUS, True)
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr(LEASE, own_lease())
        return trial

    def finished(self) -> bool:
        """Whether every trial has an end."""
        records = self.records()
        return len(records) >= self.trials and not any(map(is_open, records))

    def running(self) -> list[FrozenTrial]:
        """The trials that have no end yet."""
        return [one for one in self.records() if is_open(one)]

    def release(self, record: FrozenTrial | Trial) -> bool:
        """End a record and queue its trial for whoever comes next. Returns False where another process has done so."""
        try:
            self.study.tell(record.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):
            return False
        self._queue(record)
        return True

    def _queue(self, record: FrozenTrial | Trial) -> None:
        kept = {name: record.user_attrs[name] for name in (KILLED, PLACE) if name in record.user_attrs}
        self.study.enqueue_trial(record.params, {**kept, ORIGIN: origin(record)})

    def _release_dead(self) -> None:
        """Queue the trials whose processes have died."""
        for one in self.records():
            notes = one.user_attrs
            if one.state == TrialState.RUNNING:
                folder = self.folder_of(origin(one))
                if self.leases.has_died(one.number, notes.get(LEASE), notes.get(BEAT, 0), folder):
                    self.release(one)
            elif is_open(one) and one.state == TrialState.FAIL and self.leases.unchanged(one.number, "ended"):
                self._queue(one)  # its process died between the two steps

    def folder_of(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / f"{number:04d}"

    def fail(self, trial: Trial, reason: str) -> None:
        """End a trial that has failed."""
        trial.set_user_attr(REASON, reason)
        with suppress(ValueError, UpdateFinishedTrialError):  # another process has taken it
            self.study.tell(trial, state=TrialState.FAIL)

    def best(self) -> FrozenTrial | None:
        """The trial with the best value; None where none has been trained to its end."""
        done = [one for one in self.records() if one.state == TrialState.COMPLETE]
        sign = -1 if self.study.direction == optuna.study.StudyDirection.MINIMIZE else 1
        return max(done, key=lambda one: sign * float(one.value or 0), default=None)


def origin(record: FrozenTrial | Trial) -> int:
    """The number of a trial, however often it was taken up."""
    return int(record.user_attrs.get(ORIGIN, record.number))


def is_open(record: FrozenTrial) -> bool:
    """Whether a trial is still to be run, or runs; one that was ended without a reason is about to be queued."""
    return not record.state.is_finished() or (record.state == TrialState.FAIL and REASON not in record.user_attrs)


def open_study(
    storage: BaseStorage,
    name: str,
    metric: str,
    record: Mapping[str, Any],
    sampler: BaseSampler,
    pruner: BasePruner,
) -> optuna.Study:
    """The study of this name, which is created if there is none.

    Args:
        storage: where it is kept.
        name: its name there.
        metric: what is optimized; the smallest value with a minus before it.
        record: what all its processes must have in common.
        sampler: chooses the settings of a trial.
        pruner: ends trials that are not promising.

    Raises:
        UserError: the study was begun with other settings; the line names them.
    """
    direction: Direction = "minimize" if metric.startswith("-") else "maximize"
    with suppress(DuplicatedStudyError):
        optuna.create_study(study_name=name, storage=storage, direction=direction)
    study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
    if "record" not in study.user_attrs:
        study.set_user_attr("record", dict(record))
    before = study.user_attrs["record"]
    changed = [
        f"{key}: {before.get(key)} -> {record.get(key)}"
        for key in {**before, **record}
        if before.get(key) != record.get(key)
    ]
    if changed:
        raise UserError(
            f"the study {name} was begun with other settings: {'; '.join(changed[:5])}: "
            "give those as before, or choose another --out for a study of its own"
        )
    return study
