"""Shards of Parquet, as Hugging Face's datasets have them: a column of encoded images, and one of objects.

`image` is binary, or {bytes, path}; `objects` is {bbox, category} of lists, or a list of such; the names of the classes
are in the schema. Shards of `tools/convert.py` also have `coco`, JSON with all that the dataset said of the image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from detect.data.sources.shards import Records, Shards
from detect.errors import UserError
from detect.storage.fetch import local_path
from detect.storage.shards import image_columns, open_parquet
from detect.utils.arrow import require_arrow

_OBJECTS = ("objects", "annotations")
_PLAIN = ("width", "height")


class Parquet(Shards):
    """A folder of Parquet files, `train-00000-of-00003.parquet` …, also in `data/`; or one such file."""

    suffix = ".parquet"
    accepts = "Parquet files with columns image and objects, train-00000-of-00003.parquet …"

    def read(self, shard: Path, name: str, records: Records) -> None:
        """Add the rows of one file, of whose images only the names are read."""
        with open_parquet(local_path(shard), str(shard)) as file:
            schema = file.schema_arrow
            image = image_columns(schema, str(shard))[0]
            there = set(schema.names)
            labels = "coco" if "coco" in there else next((key for key in _OBJECTS if key in there), None)
            if labels is None:
                raise UserError(f"{shard}: has no column of objects ({', '.join(schema.names)}), so it labels no boxes")
            _classes(schema, records)
            columns = [labels, *(key for key in _PLAIN if key in there)]
            for place, content in _rows(file, image, columns, str(shard)):
                where = f"{name} row group {place.partition('/')[0].replace('-', ' row ')}"
                records.add(f"{name}/{place}", _content(content, labels), where)


def places(shard: Path, skip: Callable[[str, str], None]) -> Iterator[str]:
    """Where each image of a Parquet file is in it: see `detect.storage.shards`.

    Args:
        shard: the file.
        skip: takes the name of each other column of images.

    Raises:
        UserError: it cannot be read, or has no images.
    """
    with open_parquet(local_path(shard), str(shard)) as file:
        image, *others = image_columns(file.schema_arrow, str(shard))
        for column in others:
            skip(column[0], "")
        yield from (place for place, _ in _rows(file, image, [], str(shard)))


def _rows(file: Any, image: Sequence[str], columns: Sequence[str], shard: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where the image of each row is, with the columns that are asked for. No image is read."""
    pa = require_arrow(shard)
    known = len(image) > 1 and "path" in {part.name for part in file.schema_arrow.field(image[0]).type}
    columns = [*columns, f"{image[0]}.path"] if known else list(columns)
    for group in range(file.num_row_groups):
        try:
            rows = file.read_row_group(group, columns=columns).to_pylist() if columns else None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{shard}: row group {group} is damaged ({str(error)[:200]})") from None
        for row, content in enumerate(rows or [{}] * file.metadata.row_group(group).num_rows):
            said = (content.get(image[0]) or {}).get("path") if known else None
            called = PurePosixPath(str(said or f"{group}-{row}.jpg").replace("\\", "/")).name or "image"
            yield f"{group}-{row}/{called}", content


def _content(row: dict[str, Any], labels: str) -> Any:
    """What a row says of its image and objects."""
    if labels != "coco":
        return {"annotations": row[labels], **{key: row[key] for key in _PLAIN if row.get(key)}}
    try:
        return json.loads(row["coco"])
    except (ValueError, TypeError, RecursionError):
        return None


def _classes(schema: Any, records: Records) -> None:
    """Take the classes that the schema declares."""
    metadata = schema.metadata or {}
    try:
        if b"gridhead" in metadata and not records.categories:
            records.categories = list(json.loads(metadata[b"gridhead"]))
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    names = next((found for key in _OBJECTS if (found := _names_in(features.get(key)))), [])
    if names and not records.categories:
        records.categories = [{"id": i, "name": name} for i, name in enumerate(names)]


def _names_in(feature: Any, depth: int = 0) -> list[Any]:
    """The names of the first feature of classes in a description of features."""
    if isinstance(feature, dict) and isinstance(feature.get("names"), list):
        return feature["names"]
    inner = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ()
    return next((found for one in inner if depth < 9 and (found := _names_in(one, depth + 1))), [])
