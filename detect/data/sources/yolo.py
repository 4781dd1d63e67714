"""YOLO's text format: `data.yaml`, a folder of images, and beside it one of labels.

A line of a label file is an object, `class cx cy w h`, relative to the image as viewers show it, with EXIF
applied. `class x1 y1 x2 y2 …` with at least three corners is an outline (a polygon, or the four corners of an oriented
box), and its box the one around it; a file may hold rows of both forms. Pose rows (`kpt_shape` in the YAML) go on with
x, y and perhaps visibility of each keypoint; `kpt_names` may name these, and `flip_idx` tell which swap in a mirror. A
file of `detect predict --save-txt`, whose rows all end in a score of five decimals, is read without the scores. An
image without a label file, or with an empty one, holds no objects.
Where label files lie: see `yolo_files`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.images import read_header
from detect.data.roots import Roots, shared_folder
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import SPLITS, by_split, split_name
from detect.data.sources.yolo_files import unlabelled, yolo_files
from detect.errors import UserError
from detect.storage.resolve import beside
from detect.utils.names import require_names
from detect.utils.text_files import read_text

_SCORE = re.compile(r"[01]\.\d{5}")  # as detect predict writes it
_LIMIT = 1.5  # relative coordinates may leave the image a little; pixels are beyond this


class Keypoints(NamedTuple):
    """The keypoints of pose rows: their names, and how many numbers each has."""

    names: list[str]
    numbers: int


class Yolo(Format):
    """A YAML with `names:` and `train:`, `val:`, `test:`, or a folder with such a `data.yaml`."""

    accepts = "a YOLO data.yaml"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits. Raises UserError for names that cannot be used."""
        path, content = source.yaml_path, source.yaml
        if path is None or not isinstance(content, dict) or "names" not in content:
            return {}
        return yolo_splits(path, content, source.inside)


def yolo_splits(path: Path, content: dict[str, Any], inside: Roots | None = None) -> Splits:
    """Return the reader of each of `train`, `val`, `test` in a `data.yaml` that holds `content`.

    `path:` is relative to the YAML, the splits to it; each is a folder, a list of folders or a txt that lists images.
    """
    names = _names(path, content)
    inside = inside or Roots(path.parent)
    given = by_split(path, (key for key, entry in content.items() if entry and split_name(str(key)) in SPLITS))
    if not given:
        raise UserError(f"{path}: has no train:, val: or test: that names images; add one")
    return {
        split: partial(_load_split, path, content, content[key], split, names, inside) for split, key in given.items()
    }


def load_yolo(
    path: Path,
    images: Sequence[str],
    labels: Mapping[str, str],
    names: list[str],
    bad_records: BadRecords,
    keypoints: Keypoints | None = None,
    inside: Roots | None = None,
) -> Annotations:
    """Read the labels of image files; `labels` has the label file of each image that has one.

    Category ids are the class indices. `path` stands for the dataset in messages.
    Raises UserError as `load_coco`, and for an image whose header cannot be read.
    """
    root = Path(shared_folder(images)) if images else path.parent
    pose = len(keypoints.names) * keypoints.numbers if keypoints else 0
    records: list[dict] = []
    annotations: list[dict] = []
    where: list[str] = []
    for image_id, file in enumerate(images, start=1):
        try:
            height, width = read_header(file).shown
        except UserError as error:
            bad_records.reject("cannot use an image:", str(error))
            continue
        name = Path(os.path.relpath(file, root)).as_posix()
        records.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for line, category, values in _rows(labels.get(file), bad_records, pose):
            box = (_box(values, pose) * (width, height, width, height)).tolist()
            polygon = [] if pose or len(values) == 4 else [(values.reshape(-1, 2) * (width, height)).ravel().tolist()]
            points = _points(values[4:], keypoints, (width, height)) if keypoints else None
            record = {"category_id": category, "bbox": box, "segmentation": polygon, "keypoints": points}
            annotations.append({"image_id": image_id} | record)
            where.append(line)
    declared = {"keypoints": keypoints.names} if keypoints else {}
    categories = [{"id": index, "name": name} | declared for index, name in enumerate(names)]
    return from_coco(
        {"images": records, "annotations": annotations, "categories": categories},
        path,
        root,
        bad_records,
        where,
        inside,
    )


def _rows(path: str | None, bad_records: BadRecords, pose: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """(file and line, class, its other numbers) of each object in a label file."""
    if path is None:
        return
    try:
        lines = read_text(path).splitlines()
    except UserError as error:
        bad_records.reject("cannot use a label file:", str(error))
        return
    rows = [(number, words) for number, line in enumerate(lines, start=1) if (words := line.split())]
    scored = not pose and all(len(row) % 2 == 0 and len(row) > 5 and _SCORE.fullmatch(row[-1]) for _, row in rows)
    for number, row in rows:
        words, record = row[:-1] if scored else row, f"{path} line {number}"
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            bad_records.reject(record, f"is not a row of numbers: {' '.join(row)[:60]!r}")
            continue
        if reason := _wrong(values, pose):
            bad_records.reject(record, reason)
            continue
        yield record, int(values[0]), values[1:]


def _wrong(values: np.ndarray, pose: int) -> str:
    """What is wrong with a row of numbers, if anything."""
    polygon = not pose and len(values) >= 7 and len(values) % 2
    if len(values) != 5 + pose and not polygon:
        expected = f"{5 + pose} (pose)" if pose else "5 (a box) or an odd 7 and more (a polygon)"
        return f"has {len(values)} numbers; a row has {expected}"
    if not np.isfinite(values).all():
        return "has a number that is NaN or infinite"
    if values[0] != int(values[0]):
        return f"has class {values[0]:g}; a class is a whole number"
    if (np.abs(values[1 : None if polygon else 5]) > _LIMIT).any():
        return "has coordinates beyond the image; they are relative to its sides, 0 to 1"
    return ""


def _box(values: np.ndarray, pose: int) -> np.ndarray:
    if pose or len(values) == 4:
        return np.concatenate([values[:2] - values[2:4] / 2, values[2:4]])
    corners = values.reshape(-1, 2)
    least = corners.min(0)
    return np.concatenate([least, corners.max(0) - least])


def _names(path: Path, content: dict[str, Any]) -> list[str]:
    names = content["names"]
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise UserError(f"{path}: the keys of 'names' must be 0 to {len(names) - 1}, not {list(names)[:20]}")
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{path}: 'names' must be a list of class names, or a dictionary from index to name")
    if content.get("nc", len(names)) != len(names):
        raise UserError(f"{path}: nc is {content['nc']}, but 'names' has {len(names)} entries")
    return require_names(names, range(len(names)), path)


def _load_split(
    path: Path, content: dict[str, Any], entry: Any, split: str, names: list[str], inside: Roots, skip_bad: bool
) -> Annotations:
    base = beside(path.parent, str(content.get("path") or ""), inside)
    bad_records = BadRecords(path, skip_bad)
    images, labels, inside = yolo_files(path, split, base, entry, bad_records, inside)
    annotations = load_yolo(path, images, labels, names, bad_records, declared_keypoints(path, content), inside)
    swaps = content.get("flip_idx")
    if (
        annotations.keypoint_names
        and isinstance(swaps, list)
        and sorted(map(str, swaps)) == sorted(map(str, range(len(annotations.keypoint_names))))
    ):
        annotations = replace(annotations, flip_pairs=[[k, other] for k, other in enumerate(swaps) if k < other])
    return replace(annotations, notes=[*annotations.notes, *unlabelled(images, labels), *_polygons(annotations)])


def declared_keypoints(path: Path, content: dict[str, Any]) -> Keypoints | None:
    """The keypoints that a YAML declares; None without any."""
    shape = content.get("kpt_shape") or [0, 0]
    try:
        count, numbers = int(shape[0]), int(shape[1])
    except (TypeError, ValueError, IndexError, KeyError):
        raise UserError(f"{path}: kpt_shape must be two numbers, not {shape!r}") from None
    if not count * numbers:
        return None
    if count < 0 or numbers not in (2, 3):
        raise UserError(f"{path}: kpt_shape is {shape!r}; a keypoint has 2 numbers or 3")
    names = content.get("kpt_names") or [f"keypoint_{k}" for k in range(1, count + 1)]
    if isinstance(names, dict):  # for each class
        names = next(iter(names.values()))
    if not isinstance(names, list) or len(names) != count:
        raise UserError(f"{path}: kpt_names must be {count} names, as kpt_shape says")
    return Keypoints(require_names(names, range(1, count + 1), path, "keypoint"), numbers)


def _points(values: np.ndarray, keypoints: Keypoints, size: tuple[int, int]) -> list[float]:
    """The keypoints of a row as COCO has them, in an image of `size` (w, h); those without visibility are seen."""
    given = values.reshape(-1, keypoints.numbers)
    there = (given[:, :2] != 0).any(1) * 2.0 if keypoints.numbers == 2 else given[:, 2]
    found: list[float] = np.column_stack([given[:, :2] * size, there]).ravel().tolist()
    return found


def _polygons(annotations: Annotations) -> Iterator[tuple[str, str]]:
    """A note where rows are polygons: what tasks of boxes make of them, and how many rows have none."""
    if annotations.outlines is not None:
        count, boxes = len(annotations.boxes), int((~annotations.outlines.present).sum())
        what = f"{boxes} of {count} rows are boxes, the others outlines" if boxes else f"all {count} rows are outlines"
        yield "outlines", f"{what}: tasks that learn boxes take the box around each outline"
