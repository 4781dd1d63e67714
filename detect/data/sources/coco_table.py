"""The annotation records of a COCO file as columns: a hundred bytes a box, made of some records at a time.

Whether they are good is decided later, on whole columns, when images and categories are known: see `coco_columns`.
Axes: N records, V numbers of all keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detect.data.groups import starts_of
from detect.data.outlines import Outlines
from detect.data.sources.coco_outlines import read_outlines
from detect.data.sources.values import numbers, whole

_BLOCK = 40 << 20  # bytes; the C library maps what is larger than 32 MB by itself


@dataclass(frozen=True, eq=False)
class AnnotationTable:
    """N annotation records. What has no place in a column is in `records`, for a closer look and for messages.

    Attributes:
        values: of each key of a whole number (N,) int64, of `bbox` (N, 4), `area` and `iscrowd` (N, 1) float64; 0 where
            `odd`. A missing `area` is -1.
        odd: of each of these keys (N,) bool, where the value is nothing of the kind.
        unnumbered: (N,) bool, where there is no id.
        points: (V,) float64, the keypoints of all records, end to end.
        point_counts: (N,) int64, how many numbers of them each record has; -1 where they are no list of numbers.
        difficult: (N,) bool.
        outlines: of N objects, in parts; none where no record has any.
        bad_outlines: what is wrong with outlines, by row.
        corners: the `corners` of oriented boxes, by row.
        records: the records of which anything is odd, by row.
    """

    values: dict[str, np.ndarray]
    odd: dict[str, np.ndarray]
    unnumbered: np.ndarray
    points: np.ndarray
    point_counts: np.ndarray
    difficult: np.ndarray
    outlines: list[Outlines]
    bad_outlines: dict[int, str]
    corners: dict[int, Any]
    records: dict[int, dict[str, Any]]

    def __len__(self) -> int:
        return len(self.unnumbered)

    @classmethod
    def of(cls, records: Sequence[dict[str, Any]]) -> AnnotationTable:
        """Make a table of records."""
        ids = [record.get("id") for record in records]
        columns = {"id": whole([0 if value is None else value for value in ids])}
        for key in ("image_id", "category_id"):
            columns[key] = whole([record.get(key) for record in records])
        columns["bbox"] = numbers([record.get("bbox") for record in records], 4)
        areas = [record.get("area") for record in records]
        columns["area"] = numbers([-1 if area is None else area for area in areas], 1)
        columns["iscrowd"] = numbers([record.get("iscrowd") or 0 for record in records], 1)
        points, counts = _points(records)
        odd = np.any([odd for _, odd in columns.values()], axis=0) | (counts < 0)
        outlines, bad = read_outlines([record.get("segmentation") for record in records])
        return cls(
            values={key: values for key, (values, _) in columns.items()},
            odd={key: odd for key, (_, odd) in columns.items()},
            unnumbered=np.array([value is None for value in ids], bool),
            points=points,
            point_counts=counts,
            difficult=np.array([bool(record.get("difficult")) for record in records], bool),
            outlines=[] if outlines is None else [outlines],
            bad_outlines=bad,
            corners={row: one["corners"] for row, one in enumerate(records) if one.get("corners") is not None},
            records={row: records[row] for row in np.flatnonzero(odd).tolist()},
        )

    @classmethod
    def join(cls, tables: Sequence[AnnotationTable]) -> AnnotationTable:
        """Return the records of several tables in one, whose outlines stay in parts."""
        tables = list(tables) or [cls.of([])]
        starts = starts_of([len(table) for table in tables]).tolist()

        def rows(name: str) -> dict[int, Any]:
            parts = zip(starts, tables, strict=False)
            return {start + row: one for start, table in parts for row, one in getattr(table, name).items()}

        outlines = list[Outlines]()
        if any(table.outlines for table in tables):
            outlines = [one for t in tables for one in t.outlines or [Outlines.of_polygons([[]] * len(t))]]

        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(table, name) for table in tables])

        return cls(
            values={key: np.concatenate([table.values[key] for table in tables]) for key in tables[0].values},
            odd={key: np.concatenate([table.odd[key] for table in tables]) for key in tables[0].odd},
            unnumbered=column("unnumbered"),
            points=column("points"),
            point_counts=column("point_counts"),
            difficult=column("difficult"),
            outlines=outlines,
            bad_outlines=rows("bad_outlines"),
            corners=rows("corners"),
            records=rows("records"),
        )

    @property
    def clean(self) -> bool:
        """Whether columns, and outlines, say all that the records do."""
        return not (self.records or self.corners or self.bad_outlines or self.unnumbered.any())

    def raw(self, row: int, key: str) -> Any:
        """Return a value as the file has it, for messages."""
        if row in self.records:
            return self.records[row].get(key)
        return None if key == "id" and self.unnumbered[row] else self.values[key][row].tolist()


class TableBuilder:
    """Makes a table of records that come some at a time.

    Their small arrays are put together early, in blocks that the allocator gives back to the system: see `_BLOCK`.
    """

    def __init__(self) -> None:
        self.blocks: list[AnnotationTable] = []
        self.pending: list[AnnotationTable] = []
        self.size = 0

    def add(self, records: list[dict[str, Any]]) -> None:
        """Add some records."""
        table = AnnotationTable.of(records)
        self.pending.append(table)
        self.size += sum(one.points.nbytes for one in table.outlines)
        if self.size >= _BLOCK:
            self._close_block()

    def _close_block(self) -> None:
        block = AnnotationTable.join(self.pending)
        if block.outlines:
            block.outlines[:] = [Outlines.join(block.outlines)]
        self.blocks.append(block)
        self.pending, self.size = [], 0

    def table(self) -> AnnotationTable:
        """The table of all records."""
        self._close_block()
        return AnnotationTable.join(self.blocks)


def _points(records: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints of records, end to end, and how many numbers each has; -1 where they are no list of numbers."""
    given = [record.get("keypoints") or () for record in records]
    if not any(given):
        return np.zeros(0), np.zeros(len(records), np.int64)
    parts, counts = [np.zeros(0)], np.zeros(len(records), np.int64)
    for row, value in enumerate(given):
        try:
            part = np.array(value, np.float64).reshape(-1)
            parts.append(part)
            counts[row] = len(part)
        except (TypeError, ValueError, OverflowError):
            counts[row] = -1
    return np.concatenate(parts), counts
