"""Tables of landmarks: a csv with the columns file, x0, y0, x1, y1 …, one object for each image.

The box of a thing is its whole image. Images lie beside the csv, or in the folder there that is called as the csv
is. A point without numbers is not labelled. 68 points are those of a face (300-W, Sagonas et al., 2016), with names
that tell which change places in a mirror; others are called by their numbers.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.images import read_header
from detect.data.roots import LEAVES, Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.image_folder import read_csv
from detect.data.sources.inventory import by_split
from detect.errors import UserError
from detect.utils.atomic_io import open_file
from detect.utils.text_files import decode

_SIDES = ("right", "left")  # the person's own: the right one is on the left of the image


def _face() -> list[str]:
    """The names of the 68 points: jaw 0 to 16, brows to 26, nose to 35, eyes to 47, mouth to 67."""
    names = [f"right_jaw_{i}" for i in range(1, 9)] + ["chin"] + [f"left_jaw_{i}" for i in range(8, 0, -1)]
    names += [f"right_brow_{i}" for i in range(1, 6)] + [f"left_brow_{i}" for i in range(5, 0, -1)]
    names += [f"nose_bridge_{i}" for i in range(1, 5)]
    names += ["right_nose_wing", "right_nostril", "nose_base", "left_nostril", "left_nose_wing"]
    eye = ["eye_outer", "eye_upper_1", "eye_upper_2", "eye_inner", "eye_lower_2", "eye_lower_1"]
    names += [f"right_{part}" for part in eye] + [f"left_{eye[i]}" for i in (3, 2, 1, 0, 5, 4)]
    outer = ["mouth_corner", "upper_lip_1", "upper_lip_2"], ["lower_lip_1", "lower_lip_2"]
    names += _around(outer, "upper_lip", "lower_lip")
    return names + _around(
        (["inner_mouth_corner", "inner_upper_lip"], ["inner_lower_lip"]), "inner_top", "inner_bottom"
    )


def _around(parts: tuple[list[str], list[str]], top: str, bottom: str) -> list[str]:
    """Points around a mouth from its right corner over the top to the left one, and back below."""
    upper, lower = parts
    right, left = ([f"{side}_{part}" for part in upper] for side in _SIDES)
    below = [f"left_{part}" for part in lower] + [bottom] + [f"right_{part}" for part in reversed(lower)]
    return [*right, top, *reversed(left), *below]


FACE = _face()
# Lines to draw, by the numbers of points: open ones, and closed ones round eyes and mouth.
_OPEN = ((0, 16), (17, 21), (22, 26), (27, 30), (31, 35))
_CLOSED = ((36, 41), (42, 47), (48, 59), (60, 67))
FACE_LINES = [(i, i + 1) for a, b in (*_OPEN, *_CLOSED) for i in range(a, b)] + [(b, a) for a, b in _CLOSED]


class LandmarkCsv(Format):
    """A csv of landmarks, or a folder with one for each split."""

    accepts = "a csv of landmarks"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits."""
        if source.path.is_dir() or source.path.suffix.lower() == ".csv":
            return table_splits(source.path, source.inside)
        return {}


def table_splits(path: Path, inside: Roots | None = None) -> Splits:
    """Return the reader of each split: of a csv of landmarks, or of those in a folder; nothing where there are none."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    tables = {file.stem: file for file in files if _points_in(_columns(file))}
    return {split: partial(load_table, tables[name], inside=inside) for split, name in by_split(path, tables).items()}


def _columns(path: Path) -> list[str]:
    try:
        with open_file(path) as file:
            first = decode(file.read(1 << 16), path, "replace").splitlines()[:1]
        return [name.strip().lower() for name in next(csv.reader(first), [])]
    except (OSError, csv.Error):
        return []


def _points_in(columns: Sequence[str]) -> int:
    """How many points a table with these columns has."""
    count = 0
    while "file" in columns and {f"x{count}", f"y{count}"} <= set(columns):
        count += 1
    return count


def load_table(path: Path, skip_bad: bool = False, inside: Roots | None = None) -> Annotations:
    """Read a csv of landmarks. Raises UserError for a row without an image, or with a point that is not two numbers."""
    columns, rows = read_csv(path)
    count, bad_records = _points_in(columns), BadRecords(path, skip_bad)
    root = path.parent / path.stem if (path.parent / path.stem).is_dir() else path.parent
    images: list[dict] = []
    annotations: list[dict] = []
    inside = inside or Roots(path.parent)
    for line, row in enumerate(rows, start=2):
        if not inside.let_in([row["file"]], root)[0]:
            bad_records.reject(f"line {line}", f"has a file name that {LEAVES}: {row['file']!r}")
            continue
        try:
            height, width = read_header(root / str(row["file"])).shown
            points = [v for i in range(count) for v in _point(row[f"x{i}"], row[f"y{i}"])]
        except (UserError, ValueError) as error:
            bad_records.reject(f"line {line}", str(error))
            continue
        images.append({"id": line, "file_name": str(row["file"]), "width": width, "height": height})
        box = [0, 0, width, height]
        annotations.append({"id": line, "image_id": line, "category_id": 1, "bbox": box, "keypoints": points})
    known = count == len(FACE)
    category: dict[str, Any] = {"id": 1, "name": "face" if known else "thing"}
    category["keypoints"] = FACE if known else [f"point_{i}" for i in range(count)]
    category["skeleton"] = [[a + 1, b + 1] for a, b in FACE_LINES] if known else []
    content = {"images": images, "annotations": annotations, "categories": [category]}
    return from_coco(content, path, root, bad_records, [f"line {record['id']}" for record in images], inside)


def _point(x: str | None, y: str | None) -> tuple[float, float, int]:
    if not (x or "").strip() and not (y or "").strip():
        return 0.0, 0.0, 0
    try:
        place = float(x or "?"), float(y or "?")
    except ValueError:
        place = (math.nan, math.nan)
    if not all(map(math.isfinite, place)):
        raise ValueError(f"has a point ({x}, {y}) that is not two numbers")
    return *place, 2
