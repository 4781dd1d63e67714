"""What a run says of itself: its start, its expected time, and why it goes badly; notes.json in its folder keeps it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.config.optim import optimizer_defaults
from detect.data.annotations import Annotations, known_sizes
from detect.data.boxes import owners
from detect.training.banner import Forecast, banner, tell
from detect.training.diagnosis import Figures, Row, diagnose, poor
from detect.training.state import Run
from detect.utils.atomic_io import replace_text
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.training.loop import Trainer

FILE = "notes.json"
SAMPLE = 2000  # images that tell the sizes of objects: headers are read where annotations do not say the image's size


class Notes:
    """Prints what a run says of itself, each warning once however often the run is resumed.

    Args:
        trainer: the run that is about to start.
        training: the training set.
    """

    def __init__(self, trainer: Trainer, training: Annotations):
        self.run: Run = trainer.run
        self.begun = trainer.run.epoch
        self.epochs, self.total_steps = trainer.config.epochs, trainer.total_steps
        self.figures = figures_of(trainer, training)
        self.forecast = Forecast(trainer.steps_per_epoch, len(trainer.validation) / max(1, len(trainer.loader)))
        lines = banner(trainer, training)
        tell(lines)
        kept = read_notes(self.run.out) if self.run.step else {}
        self.start: dict[str, str] = kept.get("start") or lines
        known = kept.get("warnings", {}).items()  # those past the checkpoint are said again when it is time to
        self.warnings = {kind: one for kind, one in known if one["epoch"] <= self.run.epoch}
        self._write()
        self._warn()

    def step(self) -> None:
        """After a step: print the expected time, once it is known."""
        self._expect(self.forecast.step(self.total_steps - self.run.step))

    def epoch(self, row: Row) -> None:
        """After an epoch with this row of metrics.jsonl: print what goes badly, where that is new."""
        self._expect(self.forecast.epoch(row["seconds"], self.epochs - self.run.epoch))
        self._warn()

    def end(self) -> None:
        """After the last epoch: print all that explains a poor result, even what was printed before."""
        if self.run.epoch > self.begun:  # not where a finished run is resumed
            self._warn(ended=True)

    def _expect(self, expected: str) -> None:
        if expected:
            tell({"time": expected})

    def _warn(self, ended: bool = False) -> None:
        run = self.run
        found = diagnose(self.figures, run.history, run.terms, ended)
        again = ended and poor(self.figures, run.history)
        new = {kind: text for kind, text in found.items() if again or kind not in self.warnings}
        for text in new.values():
            say(f"warning: {text}", sys.stderr, flush=True)
        self.warnings |= {kind: {"epoch": run.epoch, "text": text} for kind, text in new.items()}
        if new:
            self._write()

    def _write(self) -> None:
        kept = {"start": self.start, "warnings": self.warnings}
        replace_text(self.run.out / FILE, json.dumps(kept, indent=1) + "\n")


def figures_of(trainer: Trainer, training: Annotations) -> Figures:
    """What the rules of `diagnosis` need to know of a run."""
    config, task, model = trainer.config, trainer.task, trainer.run.model
    sets = training, trainer.annotations
    counts = [np.bincount(one.labels[~one.crowd], minlength=len(training.names)) for one in sets]
    sides = [_sides(one, config.imgsz) if task.detects_objects else np.zeros(0) for one in sets]
    assert config.optim.lr is not None  # `with_task` has filled it in
    return Figures(
        metric=task.metric,
        detector=task.detects_objects,
        closed=not task.makes_embeddings,
        epochs=config.epochs,
        steps=trainer.total_steps,
        images=len(training),
        scratch=not (config.weights or config.backbone_weights or config.pretrained),
        frozen=len(model.frozen),
        lr=config.optim.lr,
        default_lr=optimizer_defaults(config.optim.name).lr,
        imgsz=config.imgsz,
        stride=min(getattr(getattr(model, "head", model), "strides", None) or [0]),
        names=training.names,
        train_counts=counts[0],
        val_counts=counts[1],
        train_sides=sides[0],
        val_sides=sides[1],
    )


def _sides(annotations: Annotations, size: int) -> np.ndarray:
    """Square roots of the areas of the boxes (N,) where the longer side of their image is `size`, without crowds."""
    some = annotations.select(np.arange(0, len(annotations), 1 + len(annotations) // SAMPLE))
    longest = known_sizes(some).max(axis=1, initial=1)[owners(some)]
    sides: np.ndarray = np.sqrt(some.boxes[:, 2:].clip(0).prod(axis=1)) * size / longest
    return sides[~some.crowd]


def read_notes(run: Path) -> dict[str, Any]:
    """The notes in the folder of a run; empty where there are none, as in runs of before."""
    try:
        kept = json.loads((run / FILE).read_text(encoding="utf-8"))
        warnings = kept["warnings"]
        good = all(isinstance(one["epoch"], int) and isinstance(one["text"], str) for one in warnings.values())
        good &= all(isinstance(text, str) for text in kept["start"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return kept if good else {}
