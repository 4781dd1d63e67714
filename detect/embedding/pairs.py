"""Pairs of images from a csv, by which `detect evaluate --pairs` measures an embedder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detect.data.datasets.crops import Crops
from detect.data.sources.image_folder import read_csv
from detect.errors import UserError
from detect.evaluation.verification import Pairs

COLUMNS = ("a", "b", "same")
SAME = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}


def read_pairs(path: Path, crops: Crops) -> Pairs:
    """Read pairs of images from a csv.

    Args:
        path: a csv with the columns a and b (file names as in the data) and same (1 or 0).
        crops: the crops of the data, one an image.

    Returns:
        The pairs, as rows of `crops`.

    Raises:
        UserError: a file is not in the data or shows several objects, an image is paired with itself, a value is not
            allowed, or all pairs are of one sort. It names the line.
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
                why = "shows several objects" if name in rows else f"is not in {crops.path}, or not in this --split"
                raise UserError(f"{path} line {number}: {name!r} {why}")
        if a == b:
            raise UserError(f"{path} line {number}: a and b are one image, {a}: leave the line out")
        if (same := SAME.get(word.lower())) is None:
            raise UserError(f"{path} line {number}: same is {word!r}: write 1 or 0")
        found.append((rows[a], rows[b], same))
    first, second, same = np.array(found).T
    if same.all() or not same.any():
        kind = "one identity" if same.all() else "two identities"
        raise UserError(f"{path}: all pairs are of {kind}, so there is nothing to measure: give pairs of both sorts")
    return Pairs(first, second, same.astype(bool))


def _lines(path: Path) -> list[dict[str, str | None]]:
    """The lines of a csv by column. Raises UserError where it cannot be read, lacks a column or has no lines."""
    columns, lines = read_csv(path)
    if not set(COLUMNS) <= set(columns):
        has = ", ".join(columns) or "none"
        raise UserError(f"{path}: needs the columns {', '.join(COLUMNS)}; its first line has: {has}")
    if not lines:
        raise UserError(f"{path}: the table is empty: it lists no pair")
    return lines
