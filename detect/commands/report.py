"""`detect report`: write the report of a training run, or compare several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from detect.config.constraints import ReadWith
from detect.errors import UserError
from detect.utils.locks import locked_files, under


@dataclass(frozen=True)
class ReportConfig:
    """Write report.html into the folder of a run, as training does at its end; or compare several runs on a page."""

    run: str = ""
    """Folder of the run."""
    runs: list[str] = field(default_factory=list)
    """Folders of two or more runs to compare. They must have been evaluated on the same images."""
    page: Annotated[str, ReadWith("runs")] = "runs.html"
    """File to write the comparison of --runs to, as HTML. It opens offline."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""


@contextmanager
def _locks(config: ReportConfig) -> Iterator[None]:
    if bool(config.run) == bool(config.runs):
        raise UserError("name the folder of one run with --run, or the folders of several to compare with --runs")
    with locked_files(Path(config.run) / "report.html" if config.run else config.page, kind="page"):
        yield


@under(_locks)
def report(config: ReportConfig) -> Path:
    """Write `report.html` into the folder of a run, or a page that compares several; its path.

    Raises:
        UserError: there is no run to tell of, or the runs cannot be compared.
    """
    if config.runs:
        from detect.report.comparison import write_comparison

        return write_comparison([Path(run) for run in config.runs], Path(config.page), config.device)
    from detect.report.run_report import write_report

    return write_report(Path(config.run), config.device)
