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
    from detect.data_check.findings import Checked


@dataclass(frozen=True)
class CheckConfig:
    """Look through data before training on it: defects, duplicates, odd files, class balance, sizes, anchors.

    `splits` are looked at together (none named: train, val and test, those that there are). `imgsz` is the image size
    that training will have, `k` the number of anchors to try. Findings are printed; `json` and `page` name files for
    all of them. Nothing is written into the data.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    data: str
    splits: list[str] = field(default_factory=list)
    imgsz: Side = 640
    k: Count = 9
    json: str = ""
    page: str = ""
    allow_outside: bool = False


@under(lambda config: locked_files(config.json))
@under(lambda config: locked_files(config.page, kind="page"))
def check(config: CheckConfig) -> Checked:
    """Look through the data; print what was found, and write it where --json and --page say."""
    from detect.data_check import findings, summary

    checked = findings.check(config.data, config.imgsz, config.k, config.splits, config.allow_outside)
    for line in summary.lines(checked):
        say(line)
    if config.json:
        replace_text(Path(config.json), json_text(checked.plain(), indent=1) + "\n")
    if config.page:
        replace_text(Path(config.page), str(summary.page(config.data, checked)))
    if not checked.splits:
        why = checked.findings[0].text if checked.findings else "it has no split"
        raise UserError(f"{config.data}: nothing of it can be used: {why}")
    return checked
