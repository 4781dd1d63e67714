"""The annotation records of a COCO file that have COCO's own keys and types, without a dictionary for each.

Most files have no others, and for them the parser fills objects of a known form. Polygons stay text there, and all of
them become one array at once. It takes nothing else: what has a key more, a value of another type or a key twice is
left to the general reader.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from detect.data.sources.coco_outlines import read_texts
from detect.data.sources.coco_table import AnnotationTable, keypoint_column
from detect.utils.json_numbers import count_byte


class _Rle(msgspec.Struct, gc=False):
    size: list[int]
    counts: list[int] | str


class _Record(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | None = None
    segmentation: list[msgspec.Raw] | _Rle | None = None
    keypoints: list[float] | None = None
    num_keypoints: int | None = None


_COLUMNS = {key: attrgetter(key) for key in _Record.__struct_fields__}
_OPTIONAL = _Record.__struct_fields__[-len(_Record.__struct_defaults__) :]
_DECODE = msgspec.json.Decoder(list[_Record]).decode


def typed_table(text: bytes) -> AnnotationTable | None:
    """Return the table of a json list of records; None where they have to be looked at more closely."""
    try:
        records = _DECODE(text)
    except msgspec.MsgspecError:
        return None
    given: dict[str, Any] = {key: list(map(get, records)) for key, get in _COLUMNS.items()}
    missing = {key: given[key].count(None) for key in _OPTIONAL}
    keys = len(records) * len(given) - sum(missing.values())
    polygons, rles = given.pop("segmentation"), dict[int, dict[str, Any]]()
    for row, value in enumerate(polygons):
        if type(value) is _Rle:
            rles[row], polygons[row] = {"size": value.size, "counts": value.counts}, []
            keys += 2
        elif value is None:
            polygons[row] = []
    if keys != count_byte(text, b":"):  # some are unknown, null, or come twice; or a string has colons
        return None
    columns, outlines = _columns(given, missing, len(records)), read_texts(polygons, rles)
    if columns is None or outlines is None:
        return None
    points, point_counts = keypoint_column(given["keypoints"])
    fine = np.zeros(len(records), bool)
    return AnnotationTable(
        values=columns,
        odd=dict.fromkeys(columns, fine),
        unnumbered=fine,
        points=points,
        point_counts=point_counts,
        difficult=fine,
        outlines=[] if outlines[0] is None else [outlines[0]],
        bad_outlines=outlines[1],
        corners={},
        records={},
    )


def _columns(given: dict[str, list[Any]], missing: dict[str, int], count: int) -> dict[str, np.ndarray] | None:
    """The `values` of a table; None where a number is infinite or has more than 64 bits."""
    for key, value in (("area", -1), ("iscrowd", 0)):
        if missing[key]:
            given[key] = [value if one is None else one for one in given[key]]
    try:
        columns: dict[str, np.ndarray] = {
            key: np.fromiter(given[key], np.int64, count) for key in ("id", "image_id", "category_id")
        }
        boxes = np.fromiter(chain.from_iterable(given["bbox"]), np.float64, 4 * count)
        columns["bbox"] = boxes.reshape(count, 4)
        for key in ("area", "iscrowd"):
            columns[key] = np.fromiter(given[key], np.float64, count)[:, None]
    except OverflowError:
        return None
    return columns if np.isfinite(columns["bbox"]).all() and np.isfinite(columns["area"]).all() else None


def joined_tables(tables: list[AnnotationTable]) -> AnnotationTable:
    """Return the records of several tables in one."""
    return AnnotationTable.join(tables).in_one()
