"""Puts the report of a run together: curves, what the best weights find and where they are wrong, how it was made."""

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
from detect.training.state import best_of
from detect.utils.atomic_io import read_bytes, replace_text
from detect.utils.yaml_files import read_yaml

PACKAGES = ("gridhead", "torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "hotcoco")
ELSEWHERE = {"epoch", "step", "images_per_second", "lr", "seconds"}


def write_report(run: Path, device: str = "auto") -> Path:
    """Write `report.html` into the folder of a run; its path. Raises UserError where there is no run to tell of."""
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
    chosen = f"the best is {best['epoch'] + 1}" if found else "nothing was found in any, so the last one is kept"
    page.text(f"{len(rows)} epochs; {chosen}, chosen by {task.metric.lstrip('-')}.")
    _training(page, rows, task)
    how = {name: settings.get(name, False) for name in ("skip_bad", "allow_outside")} | {"workers": settings["workers"]}
    there = splits(settings["data"], task.image_level_labels, how["allow_outside"])
    split = next((s for s in ("val", "test") if s in there), "train")
    asked = EvaluateConfig(str(weights), settings["data"], split, device=device, **how)
    page.heading(f"The best weights on {split}")
    task.report_section(page, task.evaluate(asked, [detector], task.postprocess(asked)), detector)
    _made(page, settings, _lines(run / "changes.jsonl"))
    replace_text(run / "report.html", str(page))
    return run / "report.html"


def _training(page: Page, rows: Sequence[Mapping[str, Any]], task: Task) -> None:
    """Losses, metrics and learning rate over the epochs."""
    page.heading("Training")
    names = [name for name in rows[0] if name not in ELSEWHERE]
    measures = [name for name in (task.curves or (task.metric.lstrip("-"),)) if name in names]
    first = names.index(min(measures, key=names.index)) if measures else len(names)
    terms = names[:first] or names  # the loop writes loss terms first, then what the evaluator says

    def line(name: str) -> list[tuple[float, float]]:
        return [(row["epoch"] + 1, row[name]) for row in rows if name in row]

    page.curves({name: line(name) for name in terms}, "loss terms", "epoch")
    page.curves({name: line(name) for name in measures}, "measures on held-out images", "epoch")
    page.curves({"lr": line("lr")}, "learning rate at the end of an epoch", "epoch")
    page.curves({"images/s": line("images_per_second")}, "images a second", "epoch")


def _made(page: Page, settings: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> None:
    page.heading("How it was made")
    rows = [(name, _version(name)) for name in PACKAGES]
    page.table(("what", "version"), [("Python", platform.python_version()), ("system", platform.platform()), *rows])
    page.text(f"Seed {settings['seed']}.")
    if changes:
        page.text("The run was resumed with other settings; those further below are the last. From then on:")
        made = [(c["epoch"] + 1, c["step"], name, *both) for c in changes for name, both in c["changed"].items()]
        page.table(("epoch", "after step", "setting", "before", "since then"), [(*map(str, row),) for row in made])
    page.code(yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings(run: Path) -> dict[str, Any]:
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no folder of a run: it has no config.yaml")
    found = read_yaml(run / "config.yaml")
    if not isinstance(found, dict) or not {"data", "model", "seed", "workers"} <= set(found):
        raise UserError(f"{run / 'config.yaml'} is no configuration of a run")
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file that holds one a line; none where there is no file."""
    try:
        lines = read_bytes(file).decode("utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no JSON object")
        return rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
