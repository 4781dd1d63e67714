"""Writes a dataset as shards: WebDataset (.tar) or Parquet, with a COCO file that says where each image is in them.

    train-000000.tar, …              KEY.jpg and KEY.json of each image, and the categories in `__gridhead__/`
    train-00000-of-00003.parquet, …  columns image {bytes, path}, image_id, width, height, objects and coco (JSON)
    instances_train.json             the COCO file; `file_name` is a path into a shard: see `detect.storage.shards`

Images are copied byte by byte, in the order of the annotations, so that training from shards is training from files.
The same dataset gives the same bytes. Either reader knows its shards without the COCO file, too.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from detect.data.annotations import Annotations, with_known_sizes
from detect.data.image_formats import SUFFIXES
from detect.errors import UserError
from detect.utils.arrow import require_arrow
from detect.utils.atomic_io import read_bytes, replace_file, replace_text
from detect.utils.names import json_text

META = "__gridhead__/categories.json"  # WebDataset's readers pass over names of this form
_GROUP = 2**24  # bytes of images in a row group, of which all are read for one
_BLOCK = 512  # bytes of a header of a tar, and what its members are padded to


class Sample(NamedTuple):
    """An image as shards hold it: its name, its bytes, its COCO record and those of its objects."""

    name: str
    data: bytes
    image: dict[str, Any]
    objects: list[dict[str, Any]]


def write_shards(annotations: Annotations, folder: Path, split: str, form: str, megabytes: float = 256) -> Path:
    """Write a dataset as shards, and their COCO file.

    Args:
        annotations: the dataset.
        folder: where to write; it is created.
        split: the name of the split, with which the names of the files begin.
        form: "webdataset" or "parquet".
        megabytes: the size of a shard, which an image may exceed.

    Returns:
        The path of the COCO file.

    Raises:
        UserError: it has no images, one cannot be read, the disk is full, or pyarrow is missing.
    """
    if annotations.dims != 2:
        raise UserError(f"{annotations.path}: only datasets of images are written as shards")
    content = with_known_sizes(annotations).to_coco()
    sizes = [_size(annotations.image_path(i)) for i in range(len(annotations))]
    parts = list(_cut(sizes, int(megabytes * 1e6)))
    of_image: dict[int, list[dict[str, Any]]] = {}
    for record in content["annotations"]:
        of_image.setdefault(record["image_id"], []).append(record)
    write, name_of = (
        (_write_tar, "{}-{:06}.tar") if form == "webdataset" else (_write_parquet, "{}-{:05}-of-{:05}.parquet")
    )
    for number, part in enumerate(parts):
        name = name_of.format(split, number, len(parts))
        samples = (_sample(annotations, i, content["images"][i], of_image) for i in part)
        places = write(folder / name, samples, content["categories"])
        for i, place in zip(part, places, strict=True):
            content["images"][i]["file_name"] = f"{name}/{place}"
    kind = "instances" if annotations.keypoints is None else "person_keypoints"
    path = folder / f"{kind}_{split}.json"
    replace_text(path, json_text(content) + "\n")
    return path


def _size(path: Path) -> int:
    try:
        return len(read_bytes(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _cut(sizes: list[int], most: int) -> Iterator[range]:
    """The images of each shard: as many as fit into `most` bytes, at least one."""
    start = held = 0
    for i, size in enumerate(sizes):
        if i > start and held + size > most:
            yield range(start, i)
            start, held = i, 0
        held += size
    yield range(start, len(sizes))


def _sample(annotations: Annotations, index: int, image: dict, of_image: dict[int, list[dict]]) -> Sample:
    name = PurePosixPath(annotations.file_name(index).replace("\\", "/")).name
    suffix = PurePosixPath(name).suffix.lower()
    name = (
        name if suffix in SUFFIXES and len(name.encode("utf-8", "replace")) < 200 else f"{index:09}{suffix or '.jpg'}"
    )
    return Sample(name, read_bytes(annotations.image_path(index)), image, of_image.get(image["id"], []))


def _write_tar(path: Path, samples: Iterator[Sample], categories: list[dict]) -> list[str]:
    """Write one tar; return the place of each image in it."""
    places, names = list[str](), {one["id"]: one["name"] for one in categories}

    def write(part: Path) -> None:
        with tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as archive:
            _add(archive, META, json.dumps(categories).encode())
            for number, one in enumerate(samples):
                key = f"{number:09}"
                objects = [record | {"category": names[record["category_id"]]} for record in one.objects]
                start = archive.offset + _BLOCK
                _add(archive, key + PurePosixPath(one.name).suffix.lower(), one.data)
                _add(archive, f"{key}.json", json.dumps(one.image | {"annotations": objects}).encode())
                places.append(f"{start}+{len(one.data)}/{one.name}")

    replace_file(path, write)
    return places


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # of the year 1970 and of nobody: the same dataset gives the same bytes
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _write_parquet(path: Path, samples: Iterator[Sample], categories: list[dict]) -> list[str]:
    """Write one Parquet file; return the place of each image in it."""
    pa = require_arrow(str(path))
    places, rank = list[str](), {one["id"]: i for i, one in enumerate(categories)}
    schema = _schema(pa, categories)

    def write(part: Path) -> None:
        with pa.parquet.ParquetWriter(part, schema, compression="none", write_statistics=["image_id"]) as file:
            for group, some in enumerate(_groups(samples)):
                places.extend(f"{group}-{row}/{one.name}" for row, one in enumerate(some))
                rows = [_row(one, rank) for one in some]
                file.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))

    replace_file(path, write)
    return places


def _groups(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """The samples of each row group: few enough to be read for one of them."""
    group, held = list[Sample](), 0
    for one in samples:
        if group and held + len(one.data) > _GROUP:
            yield group
            group, held = [], 0
        group.append(one)
        held += len(one.data)
    yield group


def _schema(pa: Any, categories: list[dict]) -> Any:
    """The columns, as Hugging Face's datasets has those of object detection, and the classes in its words and ours."""
    integers, numbers = pa.list_(pa.int64()), pa.list_(pa.float64())
    objects = {"id": integers, "bbox": pa.list_(numbers), "category": integers, "area": numbers}
    columns = {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "image_id": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "objects": pa.struct(objects),
        "coco": pa.string(),
    }
    label = {"names": [one["name"] for one in categories], "_type": "ClassLabel"}

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    features = {
        "image": {"_type": "Image"},
        "image_id": value("int64"),
        "width": value("int32"),
        "height": value("int32"),
        "objects": {
            "id": {"feature": value("int64"), "_type": "List"},
            "bbox": {"feature": {"feature": value("float64"), "_type": "List"}, "_type": "List"},
            "category": {"feature": label, "_type": "List"},
            "area": {"feature": value("float64"), "_type": "List"},
        },
        "coco": value("string"),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "gridhead": json.dumps(categories)}
    return pa.schema(columns, metadata=metadata)


def _row(one: Sample, rank: dict[int, int]) -> dict[str, Any]:
    objects = {
        "id": [record["id"] for record in one.objects],
        "bbox": [record["bbox"] for record in one.objects],
        "category": [rank[record["category_id"]] for record in one.objects],
        "area": [record["area"] for record in one.objects],
    }
    return {
        "image": {"bytes": one.data, "path": one.name},
        "image_id": one.image["id"],
        "width": one.image["width"],
        "height": one.image["height"],
        "objects": objects,
        "coco": json.dumps(one.image | {"annotations": one.objects}),
    }
