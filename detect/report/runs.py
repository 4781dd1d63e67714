"""What a folder of a training run holds, and what its best weights are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.sources.formats import splits
from detect.errors import UserError
from detect.report.run_files import read_rows, read_settings
from detect.tasks import Evaluation, get_task


class Run(NamedTuple):
    """A run with at least one finished epoch: its folder, the content of config.yaml, and the rows of metrics.jsonl."""

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]


def read_run(folder: Path) -> Run:
    """Read the folder of a run.

    Raises:
        UserError: the folder holds no run, or none with a finished epoch.
    """
    settings, rows = read_settings(folder), read_rows(folder / "metrics.jsonl")
    if not (folder / "best.safetensors").exists() or not rows:
        raise UserError(
            f"{folder} has no finished epoch (best.safetensors, metrics.jsonl): there is nothing to report yet"
        )
    return Run(folder, settings, rows)


def evaluate_best(run: Run, device: str) -> tuple[Detector, EvaluateConfig, Evaluation]:
    """Evaluate the best weights on the validation split; on the test or training split where there is no other."""
    weights, settings = run.folder / "best.safetensors", run.settings
    detector = Detector.load(weights, device)
    task = get_task(detector.model.task)
    same = {name: settings.get(name, False) for name in ("skip_bad", "allow_outside")}
    same["workers"] = settings["workers"]
    available = splits(settings["data"], task.image_level_labels, same["allow_outside"])
    split = next((s for s in ("val", "test") if s in available), "train")
    config = EvaluateConfig([str(weights)], settings["data"], split, device=device, **same)
    return detector, config, task.evaluate(config, [detector], task.postprocess(config))
