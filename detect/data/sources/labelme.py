"""LabelMe: a JSON file for each image, in a folder, in folders that are called as splits, or alone.

Shapes of one class and group are parts of one object; points of the group of an object are its keypoints, those with
the flag `occluded` hidden ones. Other shapes without an inside are bad records.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detect.data.annotations import Annotations
from detect.data.outlines import Outlines
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.inventory import SPLITS, by_split, fold, folders_in, parts_of, take_stock
from detect.data.sources.shapes import (
    Item,
    Labelled,
    Point,
    Shape,
    ellipse,
    endings,
    joined,
    load_export,
    polygon,
    rectangle,
)
from detect.errors import UserError
from detect.utils.json_files import read_json

LOOKED_AT = 8  # files by which a folder is recognised
_Parts = list[tuple[int, dict[str, Any]]]  # number and content of shapes


class Labelme(Format):
    """A JSON file of LabelMe, or a folder with such files."""

    accepts = "a folder of LabelMe's JSON files"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits; files in no folder of a split are `train`."""
        path = source.path
        if path.is_file():
            files = [path] if path.suffix.lower() == ".json" and _is_labelme(read_json(path)) else []
            return {"train": partial(_load, path, files, source, "train")} if files else {}
        files = [Path(file) for file in take_stock(path, inside=source.inside).others[".json"]] if path.is_dir() else []
        if not any(map(_holds_labelme, files[:LOOKED_AT])):
            return {}
        folders = {name: Path(name) for name in map(os.path.basename, folders_in(path, SPLITS))}
        names = by_split(path, folders)
        parts: dict[str, list[Path]] = defaultdict(list)
        own = {fold(name): split for split, name in names.items()}
        for file in sorted(files, key=lambda file: parts_of(str(file))):
            parts[own.get(fold(parts_of(os.path.relpath(file, path))[0]), "train")].append(file)
        return {split: partial(_load, path, some, source, split) for split, some in parts.items()}


def _load(path: Path, files: list[Path], source: Source, split: str, skip_bad: bool) -> Annotations:
    base = path if path.is_dir() else path.parent

    def images() -> Iterable[Labelled]:
        for file in files:
            if _is_labelme(content := read_json(file)):
                yield _labelme(Path(os.path.relpath(file, base)), content)

    return load_export(path, images, source.inside, split, skip_bad)


def _holds_labelme(file: Path) -> bool:
    try:
        return _is_labelme(read_json(file))
    except UserError:
        return False


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def _labelme(file: Path, content: dict[str, Any]) -> Labelled:
    """One image."""
    objects, points = _grouped(content["shapes"])
    groups = [group for group, _ in objects]
    shapes = []
    for (group, _), parts in objects.items():
        mine = points.pop(group, []) if groups.count(group) == 1 else []
        shapes.append(Shape(f"{file} shape {parts[0][0]}", partial(_object, parts, mine)))
    for number, shape in (part for parts in points.values() for part in parts):
        shapes.append(Shape(f"{file} shape {number}", partial(_object, [(number, shape)], [])))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if type(height) is int and type(width) is int and height > 0 and width > 0 else None
    path = str(content["imagePath"]).replace("\\", "/")
    place = Path(os.path.normpath(file.parent / path)).as_posix()
    return Labelled([place, *endings(path)], size, shapes)


def _grouped(shapes: list[Any]) -> tuple[dict[tuple[object, str], _Parts], dict[object, _Parts]]:
    """The shapes by group and class, and the points by group; a shape without a group is alone."""
    objects: dict[tuple[object, str], _Parts] = defaultdict(list)
    points: dict[object, _Parts] = defaultdict(list)
    for number, shape in enumerate(shapes, start=1):
        known = isinstance(shape, dict)
        group = shape.get("group_id") if known else None
        key: object = number if group is None else f"group {group}"
        if known and shape.get("shape_type") == "point":
            points[key].append((number, shape))
        else:
            objects[key, str(shape.get("label")) if known else ""].append((number, shape))
    return objects, points


def _object(parts: _Parts, points: _Parts) -> Item:
    label = parts[0][1]["label"]
    if not isinstance(label, str) or not label.strip():
        raise ValueError("has no class")
    outline = joined([_outline(shape) for _, shape in parts])
    return Item(label.strip(), outline, None, dict(_keypoint(shape) for _, shape in points))


def _keypoint(shape: dict[str, Any]) -> tuple[str, Point]:
    ((x, y),) = shape["points"]
    return str(shape["label"]), (float(x), float(y), 1 if (shape.get("flags") or {}).get("occluded") else 2)


def _outline(shape: dict[str, Any]) -> Outlines:
    kind, points = shape.get("shape_type", "polygon"), np.asarray(shape["points"], np.float64).reshape(-1, 2)
    if kind in ("polygon", "rotation", "oriented_rectangle") or (kind == "rectangle" and len(points) == 4):
        return polygon(points)
    if kind == "rectangle":
        (x, y), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        return rectangle(x, y, right - x, bottom - y)
    if kind == "circle":
        (x, y), edge = points[0].tolist(), points[1]
        radius = math.dist((x, y), edge)
        return ellipse(x, y, radius, radius)
    if kind == "mask":
        left, top = points.min(0).round().astype(int)
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=["PNG"])) > 0
        return Outlines.of_masks([mask]).moved(lambda ring: ring + np.array([left, top]))
    raise ValueError(f"is a shape without an inside ({kind})")
