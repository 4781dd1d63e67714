"""The report of a training run: curves, an evaluation of the best weights, settings and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from detect.report.html import Page
from detect.report.run_files import losses_and_metrics, read_rows
from detect.report.runs import evaluate_best, read_run
from detect.tasks import Task, get_task
from detect.training.notes import read_notes
from detect.training.state import best_of
from detect.utils.atomic_io import replace_text
from detect.utils.yaml_files import dump_yaml

PACKAGES = ("gridhead", "torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "hotcoco")


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
    known = read_run(run)
    detector, config, evaluation = evaluate_best(known, device)
    task, rows, settings = get_task(detector.model.task), known.rows, known.settings
    page = Page(f"{settings['model']['name']} on {Path(str(settings['data'])).name}")
    best, found = best_of(rows, task.metric)
    chosen = f"the best is {best['epoch'] + 1}" if found else "no epoch detected anything, so the last one is kept"
    page.text(f"{len(rows)} epochs{_duration(rows)}; {chosen}, chosen by {task.metric.lstrip('-')}.")
    _notes(page, read_notes(run))
    _training(page, rows, task)
    page.heading(f"The best weights on {config.split}")
    task.report_section(page, evaluation, detector, config)
    _settings_section(page, settings, read_rows(run / "changes.jsonl"))
    replace_text(run / "report.html", str(page))
    return run / "report.html"


def _duration(rows: Sequence[Mapping[str, Any]]) -> str:
    """Such as " in 3 min 9 s"; nothing for runs of before, which kept no times."""
    seconds = round(sum(row.get("seconds", 0) for row in rows))
    minutes = f"{seconds // 60} min " * (seconds >= 60)
    return f" in {minutes}{seconds % 60} s" if seconds else ""


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
    terms, metrics = losses_and_metrics(rows, task)

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
    page.code(dump_yaml(dict(settings)), "All settings")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
