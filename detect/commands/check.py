"""`detect check`: look through a dataset before training on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from detect.config.constraints import Count, Side
from detect.errors import UserError
from detect.utils.atomic_io import replace_text
from detect.utils.locks import locked_files, under
from detect.utils.names import json_text, say

if TYPE_CHECKING:
    from detect.data_check.kinds import Checked


@dataclass(frozen=True)
class CheckConfig:
    """Check a dataset before training on it: defects, duplicates, class balance, sizes, anchors.

    Nothing is written into the dataset.
    """

    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals."""
    splits: list[str] = field(default_factory=list)
    """Splits to check together. Default: train, val and test, as far as there are any."""
    imgsz: Side = 640
    """Image size of the training, in pixels."""
    k: Count = 9
    """Number of anchors to try."""
    json: str = ""
    """File to write every finding to, as JSON."""
    page: str = ""
    """File to write every finding to, as an HTML page with images of the findings and charts."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""


@under(lambda config: locked_files(config.json))
@under(lambda config: locked_files(config.page, kind="page"))
def check(config: CheckConfig) -> Checked:
    """Check a dataset; print the findings, and write them to `json` and `page`.

    Raises:
        UserError: nothing of the dataset can be used.
    """
    from detect.data_check import findings, summary

    checked = findings.check(config.data, config.imgsz, config.k, config.splits, config.allow_outside)
    for line in summary.lines(checked):
        say(line)
    if config.json:
        replace_text(Path(config.json), json_text(checked.plain(), indent=1) + "\n")
    if config.page:
        from detect.data_check import page

        replace_text(Path(config.page), page.html(config.data, checked))
    if not checked.splits:
        why = checked.findings[0].text if checked.findings else "it has no split"
        raise UserError(f"{config.data}: nothing of it can be used: {why}")
    return checked
