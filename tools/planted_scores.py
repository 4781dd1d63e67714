"""How well `detect mistakes` finds errors that were planted: `score` and `table` of `tools.planted_errors`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.boxes import owners
from detect.data.sources.formats import load_data
from detect.evaluation.coco_protocol import Records
from detect.evaluation.coco_results import read_results
from detect.mistakes.evidence import overlaps
from detect.utils.atomic_io import replace_text

KINDS = ("missing", "spurious", "class", "location", "duplicate")
PAIRS = "near_duplicate"
COLUMNS = ("found in k", "found in 2k", "confidence alone in k", "confidence alone in 2k")

Record = dict[str, Any]


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (N,) of a box (4,) x, y, width, height with others (N, 4)."""
    mine, theirs = (xywh_to_xyxy(torch.from_numpy(one.astype(float))) for one in (box[None], others))
    return iou(mine, theirs)[0].numpy()


class Ranking:
    """Suspected labels, the likeliest mistakes first, as (image id, annotation id or None, box, class id or None)."""

    def __init__(self, rows: Sequence[Record], planted: Sequence[Record]) -> None:
        self.hits = [self._hit(row, planted) for row in rows]

    @staticmethod
    def _hit(row: Record, planted: Sequence[Record]) -> int:
        """The index of the planted error that a row is about, -1 for none."""
        for n, one in enumerate(planted):
            if one["image_id"] != row["image_id"]:
                continue
            if one["annotation_id"] is None:
                box = np.array(one["was"]["bbox"], float)
                if row["annotation_id"] is None and overlap(box, np.array([row["bbox"]], float)).item() >= 0.5:
                    return n
            elif row["annotation_id"] is not None and row["annotation_id"] in (one["annotation_id"], one["twin_id"]):
                return n
        return -1

    def recall(self, first: int, total: int) -> float:
        """The share of `total` planted errors that are among the first rows; each counts once."""
        return len(set(self.hits[:first]) - {-1}) / max(1, total)


def score(options: argparse.Namespace) -> None:
    """Print a table: for each kind, how many of the planted errors are among the first k and 2k."""
    folder, out = Path(options.planted), Path(options.mistakes)
    planted = json.loads((folder / "planted.json").read_text(encoding="utf-8"))
    found = json.loads((out / "mistakes.json").read_text(encoding="utf-8"))["mistakes"]
    annotations = load_data(folder / "data.yaml", "train")
    records = read_results(annotations, out / "predictions.json")
    plain = by_confidence(annotations, records)
    rows = []
    for kind in (*KINDS, PAIRS, "all"):
        some = [one for one in planted if kind in (one["kind"], "all")]
        if not some:
            continue
        listed = [suspected(one) for one in found if kind in (one["kind"], "all")]
        only_missing = kind == "missing"
        alone = [one for one in plain if kind in (PAIRS, "all") or (one["annotation_id"] is None) == only_missing]
        k, orders = len(some), (Ranking(listed, some), Ranking(alone, some))
        chance = np.mean([_chance(alone, some, k, seed) for seed in range(20)])
        values = [order.recall(first, k) for order in orders for first in (k, 2 * k)]
        rows.append({"kind": kind, "planted": k, **dict(zip(COLUMNS, values, strict=True)), "random": float(chance)})
    for row in rows:
        print(" | ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    if options.json:
        replace_text(Path(options.json), json.dumps(rows, indent=1))


def table(options: argparse.Namespace) -> None:
    """Print mean and standard deviation of several scores, kind by kind."""
    scores = [json.loads(Path(file).read_text(encoding="utf-8")) for file in options.files]
    columns = ("planted", *COLUMNS, "random")
    print(f"| {' | '.join(('kind', *columns))} |\n|{' --- |' * (len(columns) + 1)}")
    for kind in (*KINDS, PAIRS, "all"):
        rows = [row for score in scores for row in score if row["kind"] == kind]
        if rows:
            print(f"| {' | '.join([kind, *(_spread([row[name] for row in rows]) for name in columns)])} |")


def _spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation as text; a whole number that all share alone."""
    if len(set(values)) == 1 and isinstance(values[0], int):
        return str(values[0])
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def suspected(one: Record) -> Record:
    """A row of mistakes.json as a `Ranking` takes it."""
    return {**one, "bbox": one["suggestion"].get("bbox") or one["bbox"]}


def _chance(rows: Sequence[Record], planted: Sequence[Record], k: int, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(rows))[:k]
    return Ranking([rows[i] for i in order], planted).recall(k, k)


def by_confidence(annotations: Annotations, records: Records) -> list[Record]:
    """Labels by the score of the best prediction of their class at their place, lowest first; predictions that no
    label overlaps, highest first; both in one list."""
    found = overlaps(annotations, records)
    same = (found.iou >= 0.5) & (annotations.labels[found.label] == records.labels[found.prediction])
    trust = np.zeros(len(annotations.labels))
    np.maximum.at(trust, found.label[same], records.scores[found.prediction[same]])
    free = np.ones(len(records.scores), bool)
    free[found.prediction[found.iou >= 0.5]] = False
    images, owner = annotations.image_ids, owners(annotations)
    rows = [
        (1 - trust[n], {"image_id": int(images[owner[n]]), "annotation_id": int(annotations.ids[n]), "bbox": []})
        for n in range(len(trust))
    ]
    rows += [
        (float(records.scores[n]), {"image_id": int(images[found.image[n]]), "annotation_id": None, "bbox": box})
        for n, box in enumerate(records.boxes.tolist())
        if free[n]
    ]
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
