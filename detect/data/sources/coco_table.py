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

KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "keypoints", "difficult", "corners")
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
        given = {key: [record.get(key) for record in records] for key in KEYS}
        outlines, bad_outlines = read_outlines([record.get("segmentation") for record in records])
        columns = {"id": whole(_filled(given["id"], 0))}
        for key in ("image_id", "category_id"):
            columns[key] = whole(given[key])
        columns["bbox"] = numbers(given["bbox"], 4)
        columns["area"] = numbers(_filled(given["area"], -1), 1)
        columns["iscrowd"] = numbers([value or 0 for value in given["iscrowd"]], 1)
        points, counts = keypoint_column(given["keypoints"])
        table = cls(
            values={key: values for key, (values, _) in columns.items()},
            odd={key: odd for key, (_, odd) in columns.items()},
            unnumbered=np.array([value is None for value in given["id"]], bool),
            points=points,
            point_counts=counts,
            difficult=np.array(list(map(bool, given["difficult"])), bool),
            outlines=[] if outlines is None else [outlines],
            bad_outlines=bad_outlines,
            corners={row: value for row, value in enumerate(given["corners"]) if value is not None},
            records={},
        )
        odd = np.any([*table.odd.values(), table.point_counts < 0], axis=0)
        table.records.update((row, records[row]) for row in np.flatnonzero(odd).tolist())
        return table

    @classmethod
    def join(cls, tables: Sequence[AnnotationTable]) -> AnnotationTable:
        """Return the records of several tables in one, whose outlines stay in parts."""
        tables = list(tables) or [cls.of([])]
        if len(tables) == 1:
            return tables[0]
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

    def in_one(self) -> AnnotationTable:
        """Return this table with its outlines in one part."""
        if len(self.outlines) > 1:
            self.outlines[:] = [Outlines.join(self.outlines)]
        return self

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

    def add(self, records: list[dict[str, Any]] | AnnotationTable) -> None:
        """Add some records."""
        table = records if isinstance(records, AnnotationTable) else AnnotationTable.of(records)
        self.pending.append(table)
        self.size += sum(one.points.nbytes for one in table.outlines)
        if self.size >= _BLOCK:
            self._close_block()

    def _close_block(self) -> None:
        self.blocks.append(AnnotationTable.join(self.pending).in_one())
        self.pending, self.size = [], 0

    def table(self) -> AnnotationTable:
        """The table of all records."""
        self._close_block()
        return AnnotationTable.join(self.blocks)


def _filled(values: list[Any], missing: int) -> list[Any]:
    """Values with a number where there is none."""
    return [missing if value is None else value for value in values] if None in values else values


def keypoint_column(given: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return keypoints of records, end to end, and how many numbers each has; -1 where they are no list of numbers."""
    counts = np.zeros(len(given), np.int64)
    if not any(given):
        return np.zeros(0), counts
    parts = [np.zeros(0)]
    for row, value in enumerate(given):
        try:
            part = np.array(value or (), np.float64).reshape(-1)
            parts.append(part)
            counts[row] = len(part)
        except (TypeError, ValueError, OverflowError):
            counts[row] = -1
    return np.concatenate(parts), counts
