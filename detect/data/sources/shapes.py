"""The shapes of labelling programs as objects: class, outline, keypoints.

What the readers of VIA, LabelMe, Label Studio and CVAT share.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords, NoClassError
from detect.data.outlines import Outlines
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco
from detect.data.sources.image_names import image_roots
from detect.errors import UserError

AROUND = 64  # corners of the polygon for a circle or an ellipse
BROKEN = (KeyError, TypeError, IndexError, AttributeError, OverflowError)
Point = tuple[float, float, int]  # x, y, visibility as COCO files have it: 1 hidden, 2 seen


class Item(NamedTuple):
    """One object: its class, its outline or, without one, its box (x, y, w, h), and its keypoints by name."""

    label: str
    outline: Outlines | None
    box: tuple[float, float, float, float] | None = None
    keypoints: Mapping[str, Point] = MappingProxyType({})


class Shape(NamedTuple):
    """One object: how messages call it, and what makes it, or raises ValueError."""

    where: str
    make: Callable[[], Item]


class Labelled(NamedTuple):
    """One image: its names, the likeliest first, its (h, w) if the export says it, and its objects."""

    names: list[str]
    size: tuple[int, int] | None
    shapes: Iterable[Shape]


def load_export(
    path: Path, images: Callable[[], Iterable[Labelled]], inside: Roots, split: str = "train", skip_bad: bool = False
) -> Annotations:
    """Return the annotations in an export of a labelling program.

    Args:
        path: the file or folder; images are looked for in its folder, and in `images/` there.
        images: reads the images in it.
        inside: the folders whose files may be used.
        split: the name of the split, which a folder of its images may have.
        skip_bad: leave bad records out and list them.

    Raises:
        UserError: it cannot be used; see `load_coco` for records.
    """
    base, bad_records = path if path.is_dir() else path.parent, BadRecords(path, skip_bad)
    try:
        found = list(images())
    except (*BROKEN, ValueError):
        raise UserError(f"{path}: is not written as an export of its program; export it again") from None
    roots = image_roots(base, split)
    records, annotations, where = list[dict](), list[dict](), list[str]()
    for image_id, one in enumerate(found, start=1):
        size = {"height": one.size[0], "width": one.size[1]} if one.size else {}
        records.append({"id": image_id, "file_name": _file(one.names, roots, base)} | size)
        for shape in one.shapes:
            try:
                item = shape.make()
            except ValueError as error:
                bad_records.reject(shape.where, str(error))
            except BROKEN:
                bad_records.reject(shape.where, "is not written as a shape of its program; export it again")
            else:
                annotations.append({"image_id": image_id} | _record(item, one.size))
                where.append(shape.where)
    names = sorted({record["category_id"] for record in annotations})
    if not names:
        message = f"{path}: no image has an object with a class" + "".join(f"; {n}" for n in bad_records.lines[:1])
        raise UserError(message) if bad_records.lines else NoClassError(message, records, path, base)
    points = list(dict.fromkeys(name for record in annotations for name in record["keypoints"]))
    for record in annotations:
        record["category_id"] = names.index(record["category_id"]) + 1
        record["keypoints"] = [value for name in points for value in record["keypoints"].get(name, (0, 0, 0))] or None
    keypoints = {"keypoints": points} if points else {}
    categories = [{"id": number, "name": name} | keypoints for number, name in enumerate(names, start=1)]
    content = {"images": records, "annotations": annotations, "categories": categories}
    return from_coco(content, path, base, bad_records, where, inside)


def _record(item: Item, size: tuple[int, int] | None) -> dict[str, Any]:
    """The COCO record of an object, its class and keypoints by name."""
    record: dict[str, Any] = {"category_id": item.label, "keypoints": item.keypoints}
    if item.outline is None:
        return record | {"bbox": list(item.box or ())}
    left, top, right, bottom = item.outline.bounds()[0].tolist()
    holes = item.outline.holes.any() and size is not None  # which a list of polygons cannot tell
    outline = item.outline.rle(0, size) if holes and size else item.outline.segmentation(0)
    return record | {"segmentation": outline, "bbox": [left, top, right - left, bottom - top]}


def _file(names: list[str], roots: list[Path], base: Path) -> str:
    """The name of an image relative to `base`: the first of its names, the longest first, that is a file in `roots`."""
    ranked = sorted(names, key=lambda name: -name.count("/"))
    places = (root / name for name in ranked for root in roots if name)
    found = next((place for place in places if os.path.isfile(place)), base / ranked[0])
    return Path(os.path.relpath(found, base)).as_posix()


def endings(path: str) -> list[str]:
    """A path with forward slashes, and what is left of it without its first folders: "a/b", "b"."""
    parts = path.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def polygon(points: Any) -> Outlines:
    """Return the outline of points (V, 2)."""
    ring = np.asarray(points, np.float64).reshape(-1, 2)
    if len(ring) < 3:
        raise ValueError(f"has a polygon of {len(ring)} points; a polygon takes three or more")
    return Outlines.of_polygons([[ring]])


def rectangle(x: float, y: float, w: float, h: float, degrees: float = 0.0) -> Outlines:
    """Return the outline of a rectangle, turned clockwise around its corner at x, y."""
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    return polygon(corners @ _turn(degrees) + np.array([x, y]))


def ellipse(x: float, y: float, across: float, down: float, degrees: float = 0.0) -> Outlines:
    """Return the outline, of many corners, of an ellipse around x, y of these radii, turned clockwise."""
    angles = np.linspace(0, 2 * math.pi, AROUND, endpoint=False)
    across_down = np.stack([across * np.cos(angles), down * np.sin(angles)], 1)
    return polygon(across_down @ _turn(degrees) + np.array([x, y]))


def joined(outlines: list[Outlines]) -> Outlines:
    """Return the outlines of the parts of one object as one."""
    rings = [ring for one in outlines for ring in one.as_rings().rings(0)[0]]
    return outlines[0] if len(outlines) == 1 else Outlines.of_polygons([rings])


def _turn(degrees: float) -> np.ndarray:
    """What points (V, 2) are multiplied by to turn them clockwise on the screen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])
