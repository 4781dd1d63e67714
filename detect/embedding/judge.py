"""`detect evaluate` for embedders: all pairs of a split, or those of a csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.api import Detector
from detect.data.check import verify
from detect.data.crops import CropDataset, Crops
from detect.data.formats import load_data
from detect.data.identities import require_pairs
from detect.data.loader import StillLoader
from detect.data.store import Annotations
from detect.device import pick_workers
from detect.errors import UserError
from detect.evaluation.measure import detect_all
from detect.evaluation.verification import PairEvaluator, Pairs, pair_lines
from detect.files import replace_text
from detect.judge import say_left_out
from detect.options import EvaluateConfig
from detect.progress import track
from detect.tasks import TASKS

COLUMNS = ("a", "b", "same")
TRUTH = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}


def evaluate_pairs(config: EvaluateConfig, members: Sequence[Detector]) -> dict[str, Any]:
    """Measure the one member on pairs of a split; see `verification.measure`."""
    detector, *others = members
    if others:
        raise UserError("several --weights are averaged for classifiers alone")
    store, evaluator = measured_pairs(config, detector)
    result = evaluator.result()
    print(f"{config.weights} on {config.pairs or store.path} ({len(store)} images)")
    for line in pair_lines(result):
        print(line)
    if config.json:
        replace_text(Path(config.json), json.dumps(result, indent=1) + "\n")
    return result


def measured_pairs(config: EvaluateConfig, detector: Detector) -> tuple[Annotations, PairEvaluator]:
    """The store of the split, and its evaluator with the vector of every crop."""
    task = TASKS[detector.model.task]
    store = verify(load_data(config.data, config.split, config.skip_bad, task.whole), config.skip_bad, decode=False)
    say_left_out(store)
    crops = Crops.of(store)
    if not config.pairs:
        require_pairs(store)
    evaluator = PairEvaluator(crops, read_pairs(Path(config.pairs), crops) if config.pairs else None)
    data = CropDataset(crops, detector.side(config.imgsz), pixels=detector.card.pixels, cache_gb=0.0)
    loader = StillLoader(data, config.batch, pick_workers(config.workers))
    answers = detect_all(detector.model, loader, task.keep, detector.device, detector.dtype)
    for ids, found in track(answers, len(loader), "evaluate"):
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
