"""Reads the files in the folder of a run; nothing heavy is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.errors import UserError
from detect.utils.atomic_io import read_bytes
from detect.utils.yaml_files import read_yaml

if TYPE_CHECKING:
    from detect.tasks import Task

NO_METRICS = {"epoch", "step", "images_per_second", "lr", "seconds"}  # entries of metrics.jsonl


def read_settings(run: Path) -> dict[str, Any]:
    """The settings in config.yaml. Raises UserError where there are none: the folder is not that of a run."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is not the folder of a run: it has no config.yaml")
    found = read_yaml(run / "config.yaml")
    if not isinstance(found, dict) or not {"data", "model", "seed", "workers"} <= set(found):
        raise UserError(f"{run / 'config.yaml'} is not the configuration of a run")
    return found


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; empty where there is no file. Raises UserError if it cannot be read."""
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


def losses_and_metrics(rows: Sequence[Mapping[str, Any]], task: Task) -> tuple[list[str], list[str]]:
    """The names of the loss terms, and of the metrics that are drawn over the epochs, in rows of metrics.jsonl."""
    names = [name for name in (rows[0] if rows else ()) if name not in NO_METRICS]
    metrics = [name for name in (task.curves or (task.metric.lstrip("-"),)) if name in names]
    first = names.index(min(metrics, key=names.index)) if metrics else len(names)
    return names[:first] or names, metrics  # the loop writes loss terms first, then the metrics of the evaluator
