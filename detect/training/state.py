"""The state of a run: everything that training changes, which is what a checkpoint holds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from detect.callbacks.base import Callback, require_plain
from detect.config.train import OptimConfig
from detect.models.base import Model
from detect.models.weights import save_weights
from detect.training.checkpoint import FORMAT, Progress, read, reading, require_same_tensors, require_tensors, write
from detect.training.ema import Ema
from detect.training.optim import build_optimizer
from detect.training.teacher import Teacher
from detect.utils.atomic_io import replace_text


class Run:
    """The state of a training run.

    Args:
        out: the folder of the run.
        model: the model that is trained.
        config: optimizer and schedule.
        float16: whether gradients are scaled, as float16 needs.
        record: the settings and facts of the run (see `run_record`).
        callbacks: by name; their state is saved with the rest.
        teachers: by name; their state is saved with the rest.

    Attributes:
        ema: the moving average of the weights.
        epoch: number of the present epoch, from 0.
        batch: batches of it that are done.
        step: optimizer steps of all epochs that are done.
        terms: names of the loss terms.
        sums: (T,) sums of the loss terms over the steps of the epoch; None before its first step.
        best: the metric of the best epoch so far.
        best_epoch: its number; -1: there is none.
        history: the row of metrics.jsonl of each epoch.
        changes: how the settings changed, one object for each time that the run was resumed with others.
    """

    def __init__(
        self,
        out: Path,
        model: Model,
        config: OptimConfig,
        float16: bool,
        record: dict[str, Any],
        callbacks: Mapping[str, Callback] | None = None,
        teachers: Mapping[str, Teacher] | None = None,
    ):
        self.out, self.record, self.callbacks = out, record, callbacks or {}
        self.changes: list[dict[str, Any]] = []
        self.model = model
        self.ema = Ema(model, config.ema)
        self.teachers = nn.ModuleDict(teachers)
        self.optimizer = build_optimizer(model, config, self.teachers.parameters())
        self.scaler = torch.amp.GradScaler("cuda", enabled=float16)
        self.epoch = self.batch = self.step = 0
        self.terms: list[str] = []
        self.sums: Tensor | None = None
        self.best, self.best_epoch = float("-inf"), -1
        self.history: list[dict[str, Any]] = []

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that is trained: the parameters of the model, and those of its teachers."""
        return chain(self.model.parameters(), self.teachers.parameters())

    def taught_by(self) -> list[Teacher]:
        """The teachers."""
        return [cast(Teacher, teacher) for teacher in self.teachers.values()]

    @property
    def checkpoint(self) -> Path:
        """The file of the checkpoint."""
        return self.out / "last.ckpt"

    def save(self) -> None:
        """Write the checkpoint: only plain containers and tensors, so that no pickle is needed to read it."""
        state = {
            "format": FORMAT,
            "record": json.dumps(self.record),
            "changes": json.dumps(self.changes),
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "counts": [self.epoch, self.batch, self.step],
            "terms": self.terms,
            "sums": self.sums,
            "best": [self.best, self.best_epoch],
            "history": json.dumps(self.history),
            "threads": torch.get_num_threads(),
        }
        if len(self.teachers):
            state["teachers"] = self.teachers.state_dict()
        if states := self._callback_states():
            state["callbacks"] = states
        write(self.checkpoint, state)

    def _callback_states(self) -> dict[str, dict[str, Any]]:
        states = {name: state for name, one in self.callbacks.items() if (state := one.state_dict())}
        for name, state in states.items():
            require_plain(name, state)
        return states

    def load(self) -> None:
        """Take the state in the checkpoint.

        Raises:
            UserError: it is damaged or of another model; nothing is changed then.
        """
        state, plain = read(self.checkpoint)
        with reading(self.checkpoint):
            require_tensors(state, self.model.state_dict(), self.optimizer.param_groups)
            require_same_tensors("teachers", state.get("teachers", {}), self.teachers.state_dict())
            self.model.load_state_dict(state["model"])
            self.ema.module.load_state_dict(state["ema"])
            self.teachers.load_state_dict(state.get("teachers", {}))
            self._take_optimizer(state["optimizer"])
            self._take_counts(plain, state["sums"])
        for name, one in state.get("callbacks", {}).items():
            if name in self.callbacks:
                self.callbacks[name].load_state_dict(one)

    def _take_optimizer(self, state: dict[str, Any]) -> None:
        """Take the optimizer's buffers and its last learning rate; its settings stay those of this run."""
        own = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, settings in zip(self.optimizer.param_groups, own, strict=True):
            group.update(settings)

    def _take_counts(self, plain: Progress, sums: Tensor | None) -> None:
        """Take what is neither model nor optimizer."""
        if self.scaler.is_enabled() and plain.scaler:
            self.scaler.load_state_dict(plain.scaler)
        self.epoch, self.batch, self.step = plain.counts
        self.terms, self.sums = plain.terms, sums
        if self.sums is not None:
            self.sums = self.sums.to(next(self.model.parameters()).device)
        self.best, self.best_epoch = plain.best
        self.history, self.changes = plain.history, plain.changes
        torch.set_num_threads(plain.threads)  # the order of sums, and with it their bits, depends on it

    def finish_epoch(self, row: dict[str, Any], metric: str, write: bool) -> bool:
        """End an epoch.

        Args:
            row: its row of metrics.jsonl.
            metric: name of the metric that chooses the best epoch (see `goodness`).
            write: whether to write metrics.jsonl and, if the epoch is the best so far, best.safetensors.

        Returns:
            Whether the epoch is the best so far.
        """
        self.history.append(row)
        chosen, _ = best_of(self.history, metric)
        better = chosen is row
        if better:
            self.best, self.best_epoch = goodness(row, metric), row["epoch"]
        if write and better:
            save_weights(self.out / "best.safetensors", self.ema.module)
        if write:
            self.write_metrics()
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, None
        return better

    def note(self, changed: Mapping[str, Sequence[Any]]) -> None:
        """Save that settings change from here on.

        Args:
            changed: for each setting its value before and after.
        """
        self.changes.append({"epoch": self.epoch, "step": self.step, "changed": dict(changed)})
        self.save()

    def write_metrics(self) -> None:
        """Write metrics.jsonl, and changes.jsonl if any. After a resume, rows past the checkpoint are gone."""
        replace_text(self.out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))
        if self.changes:
            replace_text(self.out / "changes.jsonl", "".join(json.dumps(change) + "\n" for change in self.changes))


def read_record(path: Path) -> dict[str, Any]:
    """The settings and facts in a checkpoint; its tensors are not read. Raises UserError if it is damaged."""
    return read(path, mmap=True)[1].record


def goodness(row: Mapping[str, Any], metric: str) -> float:
    """The metric of an epoch, negated where its name has a minus in front: the greatest is the best."""
    return -row[metric[1:]] if metric.startswith("-") else row[metric]


def best_of(rows: Sequence[dict[str, Any]], metric: str) -> tuple[dict[str, Any], bool]:
    """Choose the best epoch: the first with the greatest metric.

    As long as nothing is detected (AP is 0, or undefined: -1), it is the latest, since the first is hardly trained.

    Args:
        rows: one row for each epoch, at least one.
        metric: name of the metric (see `goodness`).

    Returns:
        The row, and whether anything was detected in its epoch.
    """
    best = max(rows, key=lambda row: goodness(row, metric))
    found = metric.startswith("-") or goodness(best, metric) > 0
    return (best if found else rows[-1]), found


def seed_all(*key: int) -> None:
    """Seed torch, random and numpy from a key such as (seed, step, rank): no generator needs saving."""
    words = np.random.SeedSequence(key).generate_state(2)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(words[1])  # noqa: NPY002  (for libraries that draw from the global generator)
