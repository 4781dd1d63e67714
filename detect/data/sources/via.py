"""VIA (VGG Image Annotator): the JSON export of its annotations, or its saved project, also of version 3.

Polygons, rectangles, circles and ellipses become outlines; shapes without an inside are bad records. A project of
version 3 numbers shapes, attributes and their options; points at their edges may give its circles and rectangles.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.outlines import Outlines
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.shapes import Item, Labelled, Shape, ellipse, load_export, polygon, rectangle
from detect.utils.json_files import read_json

CLASS_KEYS = ("class", "label", "name", "type", "category")
IMAGE = 2  # the number of a file's kind in projects of version 3; those of shapes:
RECTANGLE, CIRCLE, ELLIPSE, POLYGON, EXTREME_RECTANGLE, EXTREME_CIRCLE = 2, 3, 4, 7, 8, 9
KINDS = {1: "point", 5: "line", 6: "polyline"}


class Via(Format):
    """A JSON file of VIA."""

    accepts = "a JSON export or a project of VIA"

    def splits(self, source: Source) -> Splits:
        """Return the reader of such a file, whose images are all the split `train`."""
        path = source.path
        if path.suffix.lower() != ".json" or not path.is_file() or _labelled(read_json(path)) is None:
            return {}
        return {"train": partial(_load, path, source)}


def _load(path: Path, source: Source, skip_bad: bool) -> Annotations:
    return load_export(path, lambda: _labelled(read_json(path)) or (), source.inside, skip_bad=skip_bad)


def _labelled(content: Any) -> Iterable[Labelled] | None:
    """The images of a file; None where it is none of VIA's."""
    if isinstance(content, dict) and {"project", "attribute", "file", "metadata", "view"} <= content.keys():
        return _project(content)
    records = _images(content)
    return None if records is None else map(_via, records)


def _images(content: Any) -> list[dict[str, Any]] | None:
    """The records of the images; None where the content is none of VIA's."""
    content = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not content:
        return None
    records = list(content.values())
    return records if all(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in records) else None


def _via(record: dict[str, Any]) -> Labelled:
    """One image; its regions are a list, in old versions a dictionary."""
    regions = record["regions"]
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    where = f"{record['filename']} region"
    shapes = [Shape(f"{where} {i}", partial(_region, region)) for i, region in enumerate(regions or [], start=1)]
    return Labelled([str(record["filename"])], None, shapes)


def _region(region: dict[str, Any]) -> Item:
    shape, kind = region["shape_attributes"], region["shape_attributes"].get("name")
    label = _class(region.get("region_attributes") or {})
    if kind == "rect":
        return Item(label, rectangle(*(float(shape[key]) for key in ("x", "y", "width", "height"))))
    if kind == "polygon":
        return Item(label, polygon(np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1)))
    if kind == "circle":
        return Item(label, ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"]))
    if kind == "ellipse":
        turn = math.degrees(shape.get("theta", 0))
        return Item(label, ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], turn))
    raise ValueError(f"is a shape without an inside ({kind})")


def _class(attributes: dict[str, Any]) -> str:
    """The class among the attributes of a region: the one of a usual name, or the only one."""
    chosen = {key.strip().lower(): value for key, value in attributes.items()}
    key = next((key for key in CLASS_KEYS if key in chosen), next(iter(chosen), None) if len(chosen) < 2 else None)
    value = chosen.get(key) if key is not None else None
    if isinstance(value, dict):  # a checkbox: the names that are ticked
        value = next(_ticked(value), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"has no class: call its attribute one of {', '.join(CLASS_KEYS)}")
    return value.strip()


def _project(content: dict[str, Any]) -> Iterator[Labelled]:
    """The images of a project of version 3: metadata belong to views, of one file each."""
    shapes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in content["metadata"].values():
        if one.get("xy"):  # else it is of the whole file, or of a part of its time
            (file,) = content["view"][str(one["vid"])]["fid_list"]
            shapes[str(file)].append(one)
    for key, file in content["file"].items():
        name = str(file["fname"])
        if file.get("type", IMAGE) != IMAGE:
            if shapes[key]:
                yield Labelled([name], None, [Shape(name, _no_image)])
            continue
        where = f"{name} region"
        made = [partial(_numbered_region, one, content["attribute"]) for one in shapes[key]]
        yield Labelled([name], None, [Shape(f"{where} {i}", one) for i, one in enumerate(made, start=1)])


def _no_image() -> Item:
    raise ValueError("is no image: regions of videos are not read; extract the frames, and label these")


def _numbered_region(one: dict[str, Any], known: dict[str, Any]) -> Item:
    """One region of version 3: the number of its shape, then coordinates."""
    kind, *values = one["xy"]
    label = _class({known[key]["aname"]: _chosen(value, known[key]) for key, value in one.get("av", {}).items()})
    if kind == RECTANGLE:
        return Item(label, rectangle(*map(float, values)))
    if kind == CIRCLE:
        x, y, radius = map(float, values)
        return Item(label, ellipse(x, y, radius, radius))
    if kind == ELLIPSE:
        return Item(label, ellipse(*map(float, values)))
    points = np.array(values, np.float64)
    if kind == POLYGON and len(points) % 2 == 0:
        return Item(label, polygon(points))
    if kind == EXTREME_RECTANGLE and len(points) == 8:
        low, high = points.reshape(4, 2).min(0), points.reshape(4, 2).max(0)
        return Item(label, rectangle(*low.tolist(), *(high - low).tolist()))
    if kind == EXTREME_CIRCLE and len(points) == 6:
        return Item(label, _circle_through(*points.reshape(3, 2)))
    raise ValueError(f"is a shape without an inside ({KINDS.get(kind, kind)})")


def _circle_through(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Outlines:
    """The circle through three points: its middle is as far from each of them."""
    sides = np.stack([b - a, c - a])
    if abs(np.linalg.det(sides)) < 1e-9:
        raise ValueError("is a circle through three points of one line")
    middle = np.linalg.solve(sides, (sides**2).sum(1) / 2)
    radius = float(np.hypot(*middle))
    x, y = (a + middle).tolist()
    return ellipse(x, y, radius, radius)


def _chosen(value: Any, attribute: dict[str, Any]) -> Any:
    """The value of an attribute of version 3: the name of the first option that its number, or numbers, stand for."""
    options = attribute.get("options") or {}
    first = next((one for one in str(value).split(",") if one in options), None)
    return value if first is None else options[first]


def _ticked(names: dict[str, Any]) -> Iterator[str]:
    return (name for name, ticked in names.items() if ticked)
