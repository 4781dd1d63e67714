"""What training says before its first step, and by the first ones how long it will take."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from detect.data.annotations import Annotations
from detect.explain.summary import multiply_accumulates
from detect.training.transfer import parts
from detect.utils.device import pick_workers, why_dtype
from detect.utils.names import counted, say

if TYPE_CHECKING:
    from detect.config.train import TrainConfig
    from detect.training.loop import Trainer

SAMPLES = {1: "signal", 2: "image", 3: "volume"}  # by their dimensions
NAMED = 6  # classes that are listed by name
FIRST_STEPS = 20  # by which the time is estimated
SKIPPED = 4  # of them: they wait for the loader, and libraries choose their algorithms
FORWARD = 1 / 3  # work of a validation image in that of a training image, which also has a backward pass of twice it


def banner(trainer: Trainer, training: Annotations) -> dict[str, str]:
    """The data, model, device, optimizer and steps of a run, by label."""
    config, run, world = trainer.config, trainer.run, trainer.ranks.world
    images = config.global_batch or config.batch * world
    batch = counted(images * config.optim.accumulate, SAMPLES[training.dims])
    done = f", {run.step:,} of them done" if run.step else ""
    total = f"{trainer.total_steps:,} in {counted(config.epochs, 'epoch')}{done}"
    return {
        "train": _data(training, names=True),
        "val": _validation(trainer.annotations, training),
        "model": _model(trainer),
        "device": _device(trainer),
        "optimizer": _optimizer(trainer),
        "steps": f"{trainer.steps_per_epoch:,} an epoch, each of {batch}; {total}",
    }


def tell(lines: dict[str, str]) -> None:
    """Print the lines with their texts aligned."""
    for label, text in lines.items():
        say(f"{label:<10} {text}", flush=True)


def _validation(annotations: Annotations, training: Annotations) -> str:
    same = annotations.path == training.path and all(  # all splits of a YOLO data.yaml have its path
        np.array_equal(getattr(annotations, column), getattr(training, column)) for column in ("name_bytes", "labels")
    )
    return "the training set itself" if same else _data(annotations)


def _data(annotations: Annotations, names: bool = False) -> str:
    objects, classes = len(annotations.labels), len(annotations.names)
    present = len(set(annotations.labels.tolist()))
    text = counted(len(annotations), SAMPLES[annotations.dims])
    text += f", {counted(objects, 'object')}" if objects != len(annotations) else ""
    text += f", {'' if present == classes else f'{present} of '}{classes} class{'es' * (classes != 1)}"
    return text + (f" ({', '.join(annotations.names)})" if names and classes <= NAMED else "")


def _model(trainer: Trainer) -> str:
    model, config = trainer.run.model, trainer.config
    text = f"{model.config.name}, {_short(sum(p.numel() for p in model.parameters()))} parameters"
    if macs := multiply_accumulates(model, config.imgsz):
        text += f", {_short(macs)} multiply-accumulates at {config.imgsz}{' px' * (model.dims == 2)}"
    if model.frozen:
        of = f"{len(model.frozen)} of {len(parts(model))} stages of the backbone frozen"
        text += f", {of}" + (f", one fewer every {config.unfreeze_every} epochs" if config.unfreeze_every else "")
    return f"{text}, {origin(config)}"


def origin(config: TrainConfig) -> str:
    """Where the initial weights come from."""
    if config.weights:
        return f"fine-tuned from {config.weights}"
    if config.backbone_weights:
        return f"backbone from {config.backbone_weights}"
    return "backbone from torchvision's published weights" if config.pretrained else "from scratch"


def _device(trainer: Trainer) -> str:
    device, world, workers = trainer.device, trainer.ranks.world, pick_workers(trainer.config.workers)
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    text = f"{device}{name} in {why_dtype(trainer.config.precision, device, trainer.dtype)}"
    if device.type == "cpu":
        text += f", {counted(torch.get_num_threads(), 'thread')}"
    text += f", {counted(workers, 'worker')}" if workers else ", no workers"
    return text + (f", in each of {world} processes" if world > 1 else "")


def _optimizer(trainer: Trainer) -> str:
    optim, warmup = trainer.config.optim, trainer.warmup_steps
    text = f"{optim.name}, learning rate {optim.lr:g}, {optim.schedule}"
    text += f" after a warm-up of {counted(warmup, 'step')}" if warmup else ""
    return f"{text}, weight decay {optim.weight_decay:g}, EMA {optim.ema:g}"


def _short(number: float) -> str:
    """A large number with three digits and a unit: 1.62 M."""
    thousands = min(4, max(0, math.ceil(math.log10(number + 1) / 3) - 1))
    return f"{number / 1000**thousands:.3g}{('', ' k', ' M', ' G', ' T')[thousands]}"


class Forecast:
    """The time that a run will take, by its first steps.

    Args:
        steps_per_epoch: steps of an epoch.
        validation: batches of the validation set as a share of those of the training set.
    """

    def __init__(self, steps_per_epoch: int, validation: float):
        self.steps_per_epoch, self.validation = steps_per_epoch, validation
        self.seconds: list[float] = []
        self.last: float | None = None
        self.said = False

    def step(self, left: int) -> str:
        """Count a step.

        Args:
            left: steps to the end of the run.

        Returns:
            The expected time, once it is known; "" before and after.
        """
        if self.said:
            return ""
        now = time.monotonic()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now
        if len(self.seconds) < FIRST_STEPS:
            return ""
        typical = self.seconds[SKIPPED:]
        seconds = sum(typical) / len(typical) * left * (1 + FORWARD * self.validation)
        return self._say(seconds, -(-left // self.steps_per_epoch), f"{FIRST_STEPS} steps")

    def epoch(self, seconds: float, left: int) -> str:
        """Count an epoch that took `seconds`, before `left` others; it tells the time if its steps were too few."""
        return "" if self.said else self._say(seconds * left, left, "epoch")

    def _say(self, seconds: float, epochs: int, by: str) -> str:
        self.said = True
        return f"about {duration(seconds)} for {counted(epochs, 'epoch')}, by the first {by}" if epochs else ""


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 40 s, 12 min, 3 h 20 min, 2.5 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"
