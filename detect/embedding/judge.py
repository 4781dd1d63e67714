"""`detect evaluate` for embedders: all pairs of a split, or those of a csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.api import Detector
from detect.data.crops import Crops
from detect.data.identities import require_pairs
from detect.data.store import Annotations
from detect.errors import UserError
from detect.evaluation.verification import PairEvaluator, Pairs, pair_lines
from detect.judge import alone, answers, opened, tell
from detect.options import EvaluateConfig
from detect.tasks import TASKS

COLUMNS = ("a", "b", "same")
TRUTH = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}


def evaluate_pairs(config: EvaluateConfig, members: Sequence[Detector]) -> dict[str, Any]:
    """Measure the one member on pairs of a split; see `verification.measure`."""
    store, evaluator = measured_pairs(config, alone(members))
    return tell(config, f"{config.pairs or store.path} ({len(store)} images)", evaluator, pair_lines)


def measured_pairs(config: EvaluateConfig, detector: Detector) -> tuple[Annotations, PairEvaluator]:
    """The store of the split, and its evaluator with the vector of every crop."""
    store = opened(config, TASKS[detector.model.task].whole)
    crops = Crops.of(store)
    if not config.pairs:
        require_pairs(store)
    evaluator = PairEvaluator(crops, read_pairs(Path(config.pairs), crops) if config.pairs else None)
    for ids, found in answers(config, detector, store):
        evaluator.update(ids, found)
    return store, evaluator


def read_pairs(path: Path, crops: Crops) -> Pairs:
    """The pairs of a csv with columns a, b (files as in the data) and same, as rows of `crops`.

    Raises UserError, naming the line, for a file that is not in the data or shows several crops, or another value.
    """
    rows: dict[str, int] = {}
    for row, image in enumerate(crops.images.tolist()):
        name = crops.store.file_name(image)
        rows[name] = -1 if name in rows else row
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as csv: {error}") from None
    if not lines or not set(COLUMNS) <= set(lines[0]):
        raise UserError(f"{path}: needs lines with the columns {', '.join(COLUMNS)}")
    found = []
    for number, line in enumerate(lines, start=2):
        for name in (line["a"], line["b"]):
            if rows.get(name, -1) < 0:
                why = "shows several things" if name in rows else f"is not in {crops.path}, or not in this --split"
                raise UserError(f"{path} line {number}: {name} {why}")
        if (same := TRUTH.get(str(line["same"]).strip().lower())) is None:
            raise UserError(f"{path} line {number}: same is {line['same']!r}: write 1 or 0")
        found.append((rows[line["a"]], rows[line["b"]], same))
    first, second, same = np.array(found).T
    return Pairs(first, second, same.astype(bool))
