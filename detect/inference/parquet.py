"""Results as Parquet: a row for each image, its records in one column of lists. pyarrow is imported late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from detect.utils.arrow import require_arrow
from detect.utils.atomic_io import replace_file

RECORDS = 20_000  # about so many records, or images, are in memory at once, and are one row group
COLUMNS = {"image": "string", "frame": "int64", "time": "float64", "width": "int32", "height": "int32"}
# The fields that records may have (see `Result.records`), and their types.
FIELDS: dict[str, Any] = {
    "category_id": "int64",
    "category": "string",
    "bbox": ["float64"],
    "score": "float64",
    "area": "int64",
    "keypoints": ["float64"],
    "track_id": "int64",
    "speed": "float64",
    "dwell": ["float64"],
    "segmentation": {"size": ["int32"], "counts": "string"},
    "corners": [["float64"]],
    "angle": "float64",
}


def arrow_schema(columns: Mapping[str, Any], column: str, fields: Sequence[str]) -> Any:
    """The schema of a file of results.

    Args:
        columns: types of columns before those that all files have.
        column: name of the column of records.
        fields: fields of each record.
    """
    pa = require_arrow()

    def of(kind: Any) -> Any:
        if isinstance(kind, list):
            return pa.list_(of(kind[0]))
        if isinstance(kind, dict):
            return pa.struct([(name, of(one)) for name, one in kind.items()])
        return pa.type_for_alias(kind)

    kinds = {**columns, **COLUMNS, column: [{name: FIELDS[name] for name in fields}]}
    return pa.schema([(name, of(kind)) for name, kind in kinds.items()])


def write_parquet(
    path: Path, rows: Iterable[dict[str, Any]], columns: Mapping[str, Any], column: str, fields: Sequence[str]
) -> None:
    """Write rows to a file, atomically and in bounded memory. Equal rows give equal bytes.

    Args:
        path: the file.
        rows: values by column; those that lack are null.
        columns, column, fields: as of `arrow_schema`.

    Raises:
        UserError: the file cannot be written, or pyarrow is not installed.
    """
    replace_file(path, lambda part: write_rows(part, rows, columns, column, fields))


def write_rows(
    target: Path | BytesIO,
    rows: Iterable[dict[str, Any]],
    columns: Mapping[str, Any],
    column: str,
    fields: Sequence[str],
) -> None:
    """Write rows as Parquet into a file that replaces nothing, or into memory; arguments as of `write_parquet`."""
    pa, schema = require_arrow(), arrow_schema(columns, column, fields)
    with pa.parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for group in _groups(rows, column):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _groups(rows: Iterable[dict[str, Any]], column: str) -> Iterator[list[dict[str, Any]]]:
    """The rows in groups, each in the memory of about RECORDS records."""
    group, count = list[dict[str, Any]](), 0
    for row in rows:
        if "image" in row:  # names may be any bytes, and Parquet has UTF-8
            row = row | {"image": row["image"].encode("utf-8", "backslashreplace").decode()}
        group.append(row)
        count += 1 + len(row.get(column) or ())
        if count >= RECORDS:
            yield group
            group, count = [], 0
    if group:
        yield group
