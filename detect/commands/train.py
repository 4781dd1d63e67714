"""`detect train`: train a model and write a report of the run."""

from __future__ import annotations

import os
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
    return best


def _report(run: Path, device: str) -> None:
    """Write the report of a run that has ended well; where it cannot be written, say why and go on."""
    from detect.commands.report import ReportConfig, report

    try:
        say(f"report: {report(ReportConfig(str(run), device))}")
    except (UserError, OSError) as error:
        say(f"no report: {one_line(error)}", sys.stderr)
