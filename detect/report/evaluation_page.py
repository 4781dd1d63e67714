"""The page of `detect evaluate --page`: what an evaluation of any weights on any split says."""

from __future__ import annotations

from pathlib import Path

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.evaluation.protocol_options import protocol_lines, told
from detect.evaluation.uncertainty import Trust
from detect.report.html import Page
from detect.report.trust import trust_sections
from detect.tasks import Evaluation, Task
from detect.utils.atomic_io import replace_text


def write_page(
    config: EvaluateConfig,
    task: Task,
    evaluation: Evaluation,
    detector: Detector | None,
    trust: Trust | None = None,
) -> Path:
    """Write the page that `config` names; its sections are those of the task, as in the report of a run."""
    names = ", ".join(Path(one).name for one in config.weights or [config.results])
    page = Page(f"{names} on {config.split} of {Path(config.data).name}")
    page.text(f"{evaluation.amount}.")
    if changed := protocol_lines(config.protocol):
        page.text(f"The protocol is {told(changed)}.")
    task.report_section(page, evaluation, detector, config)
    if trust:
        trust_sections(page, evaluation, trust, config.examples)
    replace_text(Path(config.page), str(page))
    return Path(config.page)
