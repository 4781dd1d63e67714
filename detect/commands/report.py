"""`detect report`: write the report of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detect.utils.locks import locked_files, under


@dataclass(frozen=True)
class ReportConfig:
    """Write report.html into the folder of a run, as training does at its end."""

    run: str
    """Folder of the run."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""


@under(lambda config: locked_files(Path(config.run) / "report.html", kind="page"))
def report(config: ReportConfig) -> Path:
    """Write `report.html` into the folder of a run; its path. Raises UserError where there is no run to tell of."""
    from detect.report.run_report import write_report

    return write_report(Path(config.run), config.device)
