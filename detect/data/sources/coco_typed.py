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
from detect.data.sources.coco_table import KEYS, AnnotationTable


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
_DECODE = msgspec.json.Decoder(list[_Record]).decode


def typed_table(text: bytes) -> AnnotationTable | None:
    """Return the table of a json list of records; None where they have to be looked at more closely."""
    try:
        records = _DECODE(text)
    except msgspec.MsgspecError:
        return None
    given: dict[str, Any] = {key: list(map(get, records)) for key, get in _COLUMNS.items()}
    keys = sum(len(records) - values.count(None) for values in given.values())
    polygons, rles = given.pop("segmentation"), dict[int, dict[str, Any]]()
    for row, value in enumerate(polygons):
        if type(value) is _Rle:
            rles[row], polygons[row] = {"size": value.size, "counts": value.counts}, []
            keys += 2
        elif value is None:
            polygons[row] = []
    if keys != text.count(b":"):  # some are unknown, null, or come twice; or a string has colons
        return None
    given["bbox"] = np.fromiter(chain.from_iterable(given["bbox"]), np.float64).reshape(-1, 4)
    outlines = read_texts(polygons, rles)
    if outlines is None:
        return None
    nothing: list[Any] = [None] * len(records)
    table = AnnotationTable.of_lists({key: given.get(key, nothing) for key in KEYS}, *outlines)
    in_order = not any(odd.any() for odd in table.odd.values()) and not (table.point_counts < 0).any()
    return table if in_order else None


def joined_tables(tables: list[AnnotationTable]) -> AnnotationTable:
    """Return the records of several tables in one."""
    return AnnotationTable.join(tables).in_one()
