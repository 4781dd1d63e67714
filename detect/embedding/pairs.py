"""Pairs of images from a csv, by which `detect evaluate --pairs` measures an embedder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detect.data.datasets.crops import Crops
from detect.data.sources.image_folder import read_csv
from detect.errors import UserError
from detect.evaluation.verification import Pairs

COLUMNS = ("a", "b", "same")
TRUTH = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}


def read_pairs(path: Path, crops: Crops) -> Pairs:
    """The pairs of a csv with columns a, b (files as in the data) and same, as rows of `crops`.

    Raises UserError, naming the line, for a file that is not in the data or shows several crops, a picture beside
    itself or another value; and for pairs that are all of one kind.
    """
    rows: dict[str, int] = {}
    for row, image in enumerate(crops.images.tolist()):
        name = crops.annotations.file_name(image)
        rows[name] = -1 if name in rows else row
    found = []
    for number, line in enumerate(_lines(path), start=2):
        a, b, word = (str(line[name] or "").strip() for name in COLUMNS)
        for name in (a, b):
            if rows.get(name, -1) < 0:
                why = "shows several things" if name in rows else f"is not in {crops.path}, or not in this --split"
                raise UserError(f"{path} line {number}: {name!r} {why}")
        if a == b:
            raise UserError(f"{path} line {number}: a and b are one picture, {a}: leave the line out")
        if (same := TRUTH.get(word.lower())) is None:
            raise UserError(f"{path} line {number}: same is {word!r}: write 1 or 0")
        found.append((rows[a], rows[b], same))
    first, second, same = np.array(found).T
    if same.all() or not same.any():
        kind = "one person" if same.all() else "two people"
        raise UserError(f"{path}: all pairs are of {kind}, so there is nothing to tell apart: give pairs of both kinds")
    return Pairs(first, second, same.astype(bool))


def _lines(path: Path) -> list[dict[str, str | None]]:
    """The lines of a csv of pairs by column. Raises UserError where it cannot be read, lacks a column or has none."""
    columns, lines = read_csv(path)
    if not set(COLUMNS) <= set(columns):
        has = ", ".join(columns) or "none"
        raise UserError(f"{path}: needs the columns {', '.join(COLUMNS)}; its first line has: {has}")
    if not lines:
        raise UserError(f"{path}: the table is empty: it names no pair")
    return lines
