"""VIA (VGG Image Annotator): the JSON export of its annotations, or its saved project.

Polygons, rectangles, circles and ellipses become outlines; shapes without an inside are bad records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.shapes import Item, Labelled, Shape, ellipse, load_export, polygon, rectangle
from detect.utils.json_files import read_json

CLASS_KEYS = ("class", "label", "name", "type", "category")


class Via(Format):
    """A JSON file of VIA."""

    accepts = "a JSON export of VIA"

    def splits(self, source: Source) -> Splits:
        """Return the reader of such a file, whose images are all the split `train`."""
        path = source.path
        if path.suffix.lower() != ".json" or not path.is_file() or _images(read_json(path)) is None:
            return {}
        return {"train": partial(_load, path, source)}


def _load(path: Path, source: Source, skip_bad: bool) -> Annotations:
    return load_export(path, lambda: map(_via, _images(read_json(path)) or ()), source.inside, skip_bad=skip_bad)


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


def _ticked(names: dict[str, Any]) -> Iterator[str]:
    return (name for name, ticked in names.items() if ticked)
