"""Reads what labelling programs export, VIA, LabelMe and Label Studio, as annotations; for `tools/convert.py`.

Polygons, rectangles (turned ones too), circles, ellipses and brushed masks become outlines. Shapes without an inside,
such as points and lines, and those without a class are bad records.
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
from detect.data.bad_records import BadRecords
from detect.data.outlines import Outlines
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco
from detect.data.sources.image_names import image_roots
from detect.errors import UserError
from detect.utils.json_files import read_json
from tools.label_studio import is_task, tasks
from tools.shapes import Labelled, Shape, ellipse, polygon, rectangle

CLASS_KEYS = ("class", "label", "name", "type", "category")
_BROKEN = (KeyError, TypeError, IndexError, AttributeError, OverflowError)


def read_export(path: Path, skip_bad: bool, allow_outside: bool) -> Annotations | None:
    """Return the annotations in an export of a labelling program; None where the file or folder is none.

    Raises:
        UserError: it is one, and cannot be used; see `load_coco` for records.
    """
    try:
        found = _exported(path)
        found = None if found is None else list(found)
    except (*_BROKEN, ValueError):
        raise UserError(f"{path}: is not written as an export of its program; export it again") from None
    if found is None:
        return None
    base, bad_records = path if path.is_dir() else path.parent, BadRecords(path, skip_bad)
    roots = image_roots(base)
    images, annotations, where = list[dict](), list[dict](), list[str]()
    for image_id, one in enumerate(found, start=1):
        size = {"height": one.size[0], "width": one.size[1]} if one.size else {}
        images.append({"id": image_id, "file_name": _file(one.names, roots, base)} | size)
        for shape in one.shapes:
            try:
                label, outline = shape.make()
            except ValueError as error:
                bad_records.reject(shape.where, str(error))
            except _BROKEN:
                bad_records.reject(shape.where, "is not written as a shape of its program; export it again")
            else:
                left, top, right, bottom = outline.bounds()[0].tolist()
                record = {"image_id": image_id, "category_id": label, "segmentation": outline.segmentation(0)}
                annotations.append(record | {"bbox": [left, top, right - left, bottom - top]})
                where.append(shape.where)
    names = sorted({record["category_id"] for record in annotations})
    if not names:
        raise UserError(
            f"{path}: no image has an object with a class" + "".join(f"; {n}" for n in bad_records.lines[:1])
        )
    for record in annotations:
        record["category_id"] = names.index(record["category_id"]) + 1
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(content, path, base, bad_records, where, Roots(base, anywhere=allow_outside))


def _file(names: list[str], roots: list[Path], base: Path) -> str:
    """The name of an image relative to `base`: the first of its names that is a file below one of `roots`."""
    places = (root / name for name in names for root in roots if name)
    found = next((place for place in places if os.path.isfile(place)), base / names[0])
    return Path(os.path.relpath(found, base)).as_posix()


def _exported(path: Path) -> Iterable[Labelled] | None:
    """The images in an export; None where it is none."""
    if path.is_dir():
        files = [(file, read_json(file)) for file in sorted(path.glob("*.json"))]
        files = [(file, content) for file, content in files if _is_labelme(content)]
        return (_labelme(file.name, content) for file, content in files) if files else None
    content = read_json(path)
    if _is_labelme(content):
        return iter([_labelme(path.name, content)])
    if isinstance(content, list) and content and all(map(is_task, content)):
        return tasks(content)
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
        if content and all(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in content.values()):
            return map(_via, content.values())
    return None


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def _via(record: dict[str, Any]) -> Labelled:
    """One image of VIA; its regions are a list, in old versions a dictionary."""
    regions = record["regions"]
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    where = f"{record['filename']} region"
    shapes = (Shape(f"{where} {i}", partial(_region, region)) for i, region in enumerate(regions or [], start=1))
    return Labelled([str(record["filename"])], None, shapes)


def _region(region: dict[str, Any]) -> tuple[str, Outlines]:
    shape, kind = region["shape_attributes"], region["shape_attributes"].get("name")
    label = _via_class(region.get("region_attributes") or {})
    if kind == "rect":
        return label, rectangle(*(float(shape[key]) for key in ("x", "y", "width", "height")))
    if kind == "polygon":
        return label, polygon(np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1))
    if kind == "circle":
        return label, ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"])
    if kind == "ellipse":
        return label, ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], math.degrees(shape.get("theta", 0)))
    raise ValueError(f"is a shape without an inside ({kind})")


def _via_class(attributes: dict[str, Any]) -> str:
    """The class among the attributes of a region: the one of a usual name, or the only one."""
    chosen = {key.strip().lower(): value for key, value in attributes.items()}
    key = next((key for key in CLASS_KEYS if key in chosen), next(iter(chosen), None) if len(chosen) < 2 else None)
    value = chosen.get(key) if key is not None else None
    if isinstance(value, dict):  # a checkbox: the names that are ticked
        value = next((name for name, ticked in value.items() if ticked), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"has no class: call its attribute one of {', '.join(CLASS_KEYS)}")
    return value.strip()


def _labelme(name: str, content: dict[str, Any]) -> Labelled:
    """One file of LabelMe; shapes of one class and group are parts of one object."""
    groups = defaultdict[object, list[tuple[int, Any]]](list)
    for i, shape in enumerate(content["shapes"], start=1):
        group = shape.get("group_id") if isinstance(shape, dict) else None
        groups[i if group is None else (str(group), str(shape.get("label")))].append((i, shape))
    shapes = (
        Shape(f"{name} shape {parts[0][0]}", partial(_group, [shape for _, shape in parts]))
        for parts in groups.values()
    )
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if type(height) is int and type(width) is int and height > 0 and width > 0 else None
    path = str(content["imagePath"]).replace("\\", "/")
    return Labelled([path, path.rpartition("/")[2]], size, shapes)


def _group(shapes: list[dict[str, Any]]) -> tuple[str, Outlines]:
    label = shapes[0]["label"]
    if not isinstance(label, str) or not label.strip():
        raise ValueError("has no class")
    rings = [ring for shape in shapes for ring in _labelme_shape(shape).as_rings().rings(0)[0]]
    return label.strip(), Outlines.of_polygons([rings]) if len(shapes) > 1 else _labelme_shape(shapes[0])


def _labelme_shape(shape: dict[str, Any]) -> Outlines:
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
