"""`detect train`: train a model and write a report of the run."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from detect.config.train import TrainConfig
from detect.errors import UserError, one_line
from detect.utils.names import say


def train(config: TrainConfig) -> Path:
    """Train, and leave a report in the folder of the run; returns the file of the best weights.

    With `find_lr` nothing is trained, and the file returned is the curve of the losses.
    """
    from detect.training.setup import train as run_training

    best = run_training(config)
    if not config.find_lr and os.environ.get("RANK", "0") == "0":
        _report(best.parent, config.device)
        say(f"next: {_next(config, best)}")
    return best


def _next(config: TrainConfig, weights: Path) -> str:
    """The command to go on with."""
    from detect.tasks import get_task

    task, file = get_task(config.model.task), shlex.quote(str(weights))
    if task.results_file:
        return f"detect predict --weights {file} --source {'FILE' if config.model.dims != 2 else 'IMAGE_OR_FOLDER'}"
    if task.makes_embeddings:
        return f"detect embed --weights {file} --source FOLDER --out gallery.safetensors"
    return f"detect evaluate --weights {file} --data {shlex.quote(config.data)}"


def _report(run: Path, device: str) -> None:
    """Write the report of a run that has ended well; where it cannot be written, say why and go on."""
    from detect.commands.report import ReportConfig, report

    try:
        say(f"report: {report(ReportConfig(str(run), device=device))}")
    except (UserError, OSError) as error:
        say(f"no report: {one_line(error)}", sys.stderr)
