"""What the folder of a training run says of it: its progress, its expected end, and the lines of its curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from detect.errors import UserError
from detect.report.run_files import losses_and_metrics, read_rows, read_settings
from detect.tasks import get_task
from detect.training.notes import read_notes
from detect.training.state import best_of
from detect.utils.locks import in_use_since

RECENT = 5  # epochs whose typical time is that of those to come
Rows = Sequence[dict[str, Any]]


def run_state(run: Path) -> dict[str, Any]:
    """The state of a run for the live view; its folder is only read.

    Raises:
        UserError: the folder is not that of a run, or a file in it is damaged.
    """
    settings, rows, since = read_settings(run), read_rows(run / "metrics.jsonl"), in_use_since(run)
    task, notes, epochs = get_task(settings.get("task", "detect")), read_notes(run), int(settings["epochs"])
    losses, metrics = losses_and_metrics(rows, task)
    state: dict[str, Any] = {
        "name": run.name,
        "model": settings["model"]["name"],
        "data": str(settings["data"]),
        "epochs": epochs,
        "done": len(rows),
        "state": progress(run, len(rows), epochs, since),
        "start": notes.get("start", {}),
        "warnings": [one["text"] for one in notes.get("warnings", {}).values()],
        "last": {name: rows[-1][name] for name in [*losses, *metrics] if name in rows[-1]} if rows else {},
    }
    if rows:
        best, found = best_of(rows, task.metric)
        metric = task.metric.lstrip("-")
        state["best"] = {"epoch": best["epoch"] + 1, "metric": metric, "value": best[metric] if found else None}
    if state["state"] == "training":
        state["expected_end"] = expected_end(rows, epochs, max(since or 0, _changed(run / "metrics.jsonl")))
    return state


def progress(run: Path, done: int, epochs: int, since: float | None) -> str:
    """Whether the run is "training" (its process holds the lock since then), has "ended", or was "stopped"."""
    if since is not None:
        return "training"
    early = _changed(run / "report.html") >= _changed(run / "metrics.jsonl") > 0  # by patience or a callback
    return "ended" if done >= epochs or early else "stopped"


def expected_end(rows: Rows, epochs: int, began: float) -> float | None:
    """When the run will end, in seconds since 1970, by its last epochs; None before the first one.

    Args:
        rows: those of metrics.jsonl.
        epochs: those of the whole run.
        began: when the present epoch began.
    """
    seconds = [row["seconds"] for row in rows[-RECENT:] if "seconds" in row]
    return began + median(seconds) * (epochs - len(rows)) if seconds else None


def run_lines(runs: Mapping[str, Path]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The lines over the epochs of each chart, by its title: of one run, or of several beside each other.

    A run that cannot be read is left out.
    """
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, run in runs.items():
        try:
            rows = read_rows(run / "metrics.jsonl")
            losses, metrics = losses_and_metrics(rows, get_task(read_settings(run).get("task", "detect")))
        except UserError:
            continue
        groups = {"Metrics on the validation set": metrics, "Loss terms": losses}
        groups |= {"Learning rate": ["lr"], "Images per second": ["images_per_second"]}
        for title, quantities in groups.items() if rows else ():
            for quantity in quantities:
                line = [(row["epoch"] + 1, row[quantity]) for row in rows if quantity in row]
                chart = title if len(runs) == 1 or len(quantities) == 1 else quantity
                label = quantity if len(runs) == 1 else name
                charts.setdefault(chart, {})[label] = line
    return charts


def _changed(file: Path) -> float:
    """When a file was last written, in seconds since 1970; 0 where there is none."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def as_text(state: Any) -> str:
    """Text that is the same for the same state."""
    return json.dumps(state, sort_keys=True)
