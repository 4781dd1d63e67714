"""Everything that a run is: what training changes, and what a checkpoint holds."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detect.callbacks.base import Callback, require_plain
from detect.config.train import OptimConfig
from detect.models.base import Model
from detect.models.legacy import current_setting
from detect.models.weights import save_weights
from detect.training.checkpoint import FORMAT, Progress, read, reading, require_tensors, write
from detect.training.ema import Ema
from detect.training.optim import build_optimizer
from detect.utils.atomic_io import replace_text


class Run:
    """The state of a training run. `batch` counts the batches done of `epoch`, `step` the optimizer steps of all.

    `record` is what the run runs with (see `record`), `changes` how that changed, an object for each resumed start.
    `callbacks`, by name, have a state that is saved with the rest.
    """

    def __init__(
        self,
        out: Path,
        model: Model,
        config: OptimConfig,
        float16: bool,
        record: dict[str, Any],
        callbacks: Mapping[str, Callback] | None = None,
    ):
        self.out, self.record, self.callbacks = out, record, callbacks or {}
        self.changes: list[dict[str, Any]] = []
        self.model = model
        self.ema = Ema(model, config.ema)
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler("cuda", enabled=float16)
        self.epoch = self.batch = self.step = 0
        self.terms: list[str] = []
        self.sums: Tensor | None = None  # of the loss terms over the epoch so far
        self.best, self.best_epoch = float("-inf"), -1
        self.history: list[dict[str, Any]] = []

    @property
    def checkpoint(self) -> Path:
        return self.out / "last.ckpt"

    def save(self) -> None:
        """Write the checkpoint: plain containers and tensors alone, so that no pickle is needed to read it."""
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
        if states := self._callback_states():
            state["callbacks"] = states
        write(self.checkpoint, state)

    def _callback_states(self) -> dict[str, dict[str, Any]]:
        states = {name: state for name, one in self.callbacks.items() if (state := one.state_dict())}
        for name, state in states.items():
            require_plain(name, state)
        return states

    def load(self) -> None:
        """Become the run that the checkpoint holds. Raises UserError when it is damaged, before anything is taken."""
        state, plain = read(self.checkpoint)
        with reading(self.checkpoint):
            require_tensors(state, self.model.state_dict(), self.optimizer.param_groups)
            self.model.load_state_dict(state["model"])
            self.ema.module.load_state_dict(state["ema"])
            self._take_optimizer(state["optimizer"])
            self._take_counts(plain, state["sums"])
        for name, one in state.get("callbacks", {}).items():
            if name in self.callbacks:
                self.callbacks[name].load_state_dict(one)

    def _take_optimizer(self, state: dict[str, Any]) -> None:
        """Take what the optimizer has gathered, and its last learning rate; its settings are those of this run."""
        own = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, settings in zip(self.optimizer.param_groups, own, strict=True):
            group.update(settings)

    def _take_counts(self, plain: Progress, sums: Tensor | None) -> None:
        if self.scaler.is_enabled() and plain.scaler:
            self.scaler.load_state_dict(plain.scaler)
        self.epoch, self.batch, self.step = plain.counts
        self.terms, self.sums = plain.terms, sums
        if self.sums is not None:
            self.sums = self.sums.to(next(self.model.parameters()).device)
        self.best, self.best_epoch = plain.best
        self.history, self.changes = plain.history, plain.changes
        torch.set_num_threads(plain.threads)  # sums are ordered by thread: other counts give other bits

    def finish_epoch(self, row: dict[str, Any], metric: str, write: bool) -> bool:
        """Take the numbers of the epoch that ended, and `write` files. Whether it is the best so far by `metric`."""
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
        """Remember that from here on the settings of these names are others: [before, after]."""
        self.changes.append({"epoch": self.epoch, "step": self.step, "changed": dict(changed)})
        self.save()

    def write_metrics(self) -> None:
        """metrics.jsonl as this run knows it: after a resume, without what came later than the checkpoint.

        Likewise changes.jsonl, where there were any.
        """
        replace_text(self.out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))
        if self.changes:
            replace_text(self.out / "changes.jsonl", "".join(json.dumps(change) + "\n" for change in self.changes))


def read_record(path: Path) -> dict[str, Any]:
    """The record in a checkpoint; its tensors are not read. Raises UserError when it is damaged."""
    record = read(path, mmap=True)[1].record
    return {current_setting(name): value for name, value in record.items()}


def goodness(row: Mapping[str, Any], metric: str) -> float:
    """The metric of an epoch, the greater the better: the least is the best where its name begins with a minus."""
    return -row[metric[1:]] if metric.startswith("-") else row[metric]


def best_of(rows: Sequence[dict[str, Any]], metric: str) -> tuple[dict[str, Any], bool]:
    """The best epoch of all (at least one), and whether anything was found in it: the first of the greatest.

    As long as nothing is found (AP is 0, or undefined: -1), it is the latest, since the first would be hardly trained.
    """
    best = max(rows, key=lambda row: goodness(row, metric))
    found = metric.startswith("-") or goodness(best, metric) > 0
    return (best if found else rows[-1]), found


def seed_all(*key: int) -> None:
    """Seed every generator from a key such as (seed, step, rank), so that no generator's state needs saving."""
    words = np.random.SeedSequence(key).generate_state(2)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(words[1])  # noqa: NPY002  (for libraries that draw from the global generator)
