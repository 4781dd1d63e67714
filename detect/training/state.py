"""Everything that a run is: what training changes, and what a checkpoint holds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detect.config import OptimConfig
from detect.errors import UserError
from detect.files import replace_file, replace_text
from detect.models.base import Model
from detect.models.weights import save_weights
from detect.training.optim import Ema, build_optimizer

FORMAT = 1


class Run:
    """The state of a training run. `batch` counts the batches done of `epoch`, `step` the optimizer steps of all.

    `plan` are the settings, by name, without which the state means nothing: `load` holds the checkpoint to them.
    """

    def __init__(self, out: Path, model: Model, config: OptimConfig, float16: bool, plan: dict[str, Any]):
        self.out, self.plan = out, plan
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
            "plan": json.dumps(self.plan),
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
        replace_file(self.checkpoint, lambda part: torch.save(state, part))

    def load(self) -> None:
        """Become the run that the checkpoint holds. Raises UserError when it is damaged or of another run."""
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self._same_plan(json.loads(state["plan"]))
            self.model.load_state_dict(state["model"])
            self.ema.module.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._take_counts(state)
        except UserError:
            raise
        except Exception as error:  # torch raises many kinds for a damaged or foreign file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{self.checkpoint} is damaged or no checkpoint: {reason}; start with another --out"
            ) from error

    def _same_plan(self, plan: dict[str, Any]) -> None:
        for name, value in json.loads(json.dumps(self.plan)).items():
            if plan.get(name) != value:
                raise UserError(
                    f"{self.checkpoint} was made with {name} {plan.get(name)}, this run has {value}: "
                    f"give the settings in {self.out / 'config.yaml'}, or start with another --out"
                )

    def _take_counts(self, state: dict[str, Any]) -> None:
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.batch, self.step = state["counts"]
        self.terms, self.sums = state["terms"], state["sums"]
        if self.sums is not None:
            self.sums = self.sums.to(next(self.model.parameters()).device)
        self.best, self.best_epoch = state["best"]
        self.history = json.loads(state["history"])
        torch.set_num_threads(state["threads"])  # sums are ordered by thread: other counts give other bits

    def finish_epoch(self, row: dict[str, Any], metric: str, write: bool) -> bool:
        """Take the numbers of the epoch that ended, and `write` files. Whether it is the best so far, by that metric.

        The best is the greatest, or the least where the metric's name begins with a minus.
        Among equals the later is the better: where AP stays 0, or is undefined (-1), the first would be hardly trained.
        """
        value = -row[metric[1:]] if metric.startswith("-") else row[metric]
        better = value >= self.best
        if better:
            self.best, self.best_epoch = value, row["epoch"]
        self.history.append(row)
        if write and better:
            save_weights(self.out / "best.safetensors", self.ema.module)
        if write:
            self.write_metrics()
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, None
        return better

    def write_metrics(self) -> None:
        """metrics.jsonl as this run knows it: after a resume, without what came later than the checkpoint."""
        replace_text(self.out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))


def seed_all(*key: int) -> None:
    """Seed every generator from a key such as (seed, step, rank), so that no generator's state needs saving."""
    words = np.random.SeedSequence(key).generate_state(2)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(words[1])  # noqa: NPY002  (for libraries that draw from the global generator)
