"""The report of a training run: curves, an evaluation of the best weights, settings and versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.sources.formats import splits
from detect.errors import UserError
from detect.report.html import Page
from detect.tasks import Task, get_task
from detect.training.notes import read_notes
from detect.training.state import best_of
from detect.utils.atomic_io import read_bytes, replace_text
from detect.utils.yaml_files import read_yaml

PACKAGES = ("gridhead", "torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "hotcoco")
NO_METRICS = {"epoch", "step", "images_per_second", "lr", "seconds"}  # entries of metrics.jsonl


def write_report(run: Path, device: str = "auto") -> Path:
    """Write `report.html` into the folder of a run.

    Args:
        run: the folder of the run.
        device: where to evaluate the best weights, such as "cpu".

    Returns:
        The path of the report.

    Raises:
        UserError: the folder holds no run, or none with a finished epoch.
    """
    settings, rows = _settings(run), _lines(run / "metrics.jsonl")
    weights = run / "best.safetensors"
    if not weights.exists() or not rows:
        raise UserError(
            f"{run} has no finished epoch (best.safetensors, metrics.jsonl): there is nothing to report yet"
        )
    detector = Detector.load(weights, device)
    task = get_task(detector.model.task)
    page = Page(f"{settings['model']['name']} on {settings['data']}")
    best, found = best_of(rows, task.metric)
    chosen = f"the best is {best['epoch'] + 1}" if found else "no epoch detected anything, so the last one is kept"
    page.text(f"{len(rows)} epochs; {chosen}, chosen by {task.metric.lstrip('-')}.")
    _notes(page, read_notes(run))
    _training(page, rows, task)
    same = {name: settings.get(name, False) for name in ("skip_bad", "allow_outside")} | {
        "workers": settings["workers"]
    }
    available = splits(settings["data"], task.image_level_labels, same["allow_outside"])
    split = next((s for s in ("val", "test") if s in available), "train")
    config = EvaluateConfig([str(weights)], settings["data"], split, device=device, **same)
    page.heading(f"The best weights on {split}")
    task.report_section(page, task.evaluate(config, [detector], task.postprocess(config)), detector, config)
    _settings_section(page, settings, _lines(run / "changes.jsonl"))
    replace_text(run / "report.html", str(page))
    return run / "report.html"


def _notes(page: Page, notes: Mapping[str, Any]) -> None:
    """What the run warned of, and how it started."""
    if warnings := notes.get("warnings"):
        page.heading("Warnings")
        page.table(("after epoch", "warning"), [(one["epoch"], one["text"]) for one in warnings.values()])
    if start := notes.get("start"):
        page.heading("Start")
        page.table((), list(start.items()))


def _training(page: Page, rows: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Losses, metrics and learning rate over the epochs."""
    page.heading("Training")
    names = [name for name in rows[0] if name not in NO_METRICS]
    metrics = [name for name in (task.curves or (task.metric.lstrip("-"),)) if name in names]
    first = names.index(min(metrics, key=names.index)) if metrics else len(names)
    terms = names[:first] or names  # the loop writes loss terms first, then the metrics of the evaluator

    def line(name: str) -> list[tuple[float, float]]:
        return [(row["epoch"] + 1, row[name]) for row in rows if name in row]

    page.curves({name: line(name) for name in terms}, "loss terms", "epoch")
    page.curves({name: line(name) for name in metrics}, "metrics on the validation set", "epoch")
    page.curves({"lr": line("lr")}, "learning rate at the end of an epoch", "epoch")
    page.curves({"images/s": line("images_per_second")}, "images per second", "epoch")


def _settings_section(page: Page, settings: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> None:
    page.heading("Settings and versions")
    rows = [(name, _version(name)) for name in PACKAGES]
    page.table(("package", "version"), [("Python", platform.python_version()), ("system", platform.platform()), *rows])
    page.text(f"Seed {settings['seed']}.")
    if changes:
        page.text("The run was resumed with other settings. The settings below are the last ones; these changed:")
        made = [(c["epoch"] + 1, c["step"], name, *both) for c in changes for name, both in c["changed"].items()]
        page.table(("epoch", "after step", "setting", "before", "after"), [(*map(str, row),) for row in made])
    page.code(yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings(run: Path) -> dict[str, Any]:
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is not the folder of a run: it has no config.yaml")
    found = read_yaml(run / "config.yaml")
    if not isinstance(found, dict) or not {"data", "model", "seed", "workers"} <= set(found):
        raise UserError(f"{run / 'config.yaml'} is not the configuration of a run")
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; empty where there is no file."""
    try:
        lines = read_bytes(file).decode("utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not a JSON object")
        return rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
