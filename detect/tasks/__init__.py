"""The tasks that models are trained for, one file each; `get_task` finds them by name."""

from __future__ import annotations

from detect.registry import REGISTRIES
from detect.tasks.base import Evaluation, Evaluator, ExportForm, Late, Task

__all__ = ["Evaluation", "Evaluator", "ExportForm", "Late", "Task", "get_task"]


def get_task(name: str) -> Task:
    """The registered task of that name.

    Raises:
        UserError: there is none; the nearest name is suggested.
    """
    task: Task = REGISTRIES["task"][name]
    return task
