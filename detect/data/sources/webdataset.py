"""Shards of WebDataset: tar files of samples, the files of one name up to its first dot: `000139.jpg`, `000139.json`.

The json holds COCO's keys: `annotations`, each with `bbox` and `category_id` or `category`; or see `shards`. A folder
that also has a COCO file (`instances_train.json`) is read by that, which takes no look into the shards.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from detect.data.image_formats import SUFFIXES
from detect.data.shard_writers import META
from detect.data.sources.shards import Records, Shards
from detect.errors import UserError
from detect.storage.shards import LARGEST
from detect.utils.atomic_io import open_file
from detect.utils.names import shown

_LABELS = 2**26  # bytes of the json of one image
_MOST = 10_000_000  # files in a shard
_log = logging.getLogger("detect")


class WebDataset(Shards):
    """A folder of tar files, `train-000000.tar` …, or one such file."""

    suffix = ".tar"
    accepts = "WebDataset's shards, train-000000.tar …"

    def read(self, shard: Path, name: str, records: Records) -> None:
        """Add the samples of one file. Nothing is unpacked: names in it are keys, and parts of paths for people."""
        key, parts = None, dict[str, Any]()
        for member, data in _members(shard):
            if member.name == META:
                records.categories = records.categories or _categories(data, shard)
                continue
            folder, stem, suffix = _key(member.name)
            if (found := (folder, stem)) != key:
                _add(parts, name, records)
                key, parts = found, {}
            if suffix == ".json":
                parts["json"] = data
            elif suffix in SUFFIXES:
                parts["image"] = f"{name}/{_place(member, stem, suffix)}"
            parts["name"] = member.name
        _add(parts, name, records)


def places(shard: Path) -> Iterator[str]:
    """Where each image of a tar is in it: see `detect.storage.shards`. A warning counts what is only called like one.

    Raises:
        UserError: it cannot be read.
    """
    left_out, first = 0, ""
    for member, _ in _members(shard, labels=False):
        _, stem, suffix = _key(member.name)
        if suffix in SUFFIXES:
            yield _place(member, stem, suffix)
        elif PurePosixPath(member.name).suffix.lower() in SUFFIXES:
            left_out, first = left_out + 1, first or member.name
    if left_out:
        why = "in WebDataset the kind of a file is what follows the first dot of its name"
        _log.warning("%s", shown(f"{shard}: {left_out:,} files are left out, such as {first!r}: {why}"))


def _key(name: str) -> tuple[str, str, str]:
    """Folder and name of the sample of a file, and the suffix that says what the file is of it."""
    folder, _, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return folder, stem, f".{suffix.lower()}"


def _place(member: tarfile.TarInfo, stem: str, suffix: str) -> str:
    return f"{member.offset_data}+{member.size}/{stem}{suffix}"


def _add(parts: dict[str, Any], name: str, records: Records) -> None:
    """Add one sample. One without an image is of no use here, such as a caption alone."""
    if "image" not in parts:
        return
    where = f"{name}: {parts['name']!r:.100}"
    try:
        content = json.loads(parts["json"]) if "json" in parts else None
    except (ValueError, RecursionError) as error:
        records.bad.reject(where, f"has a broken json ({error})")
        return
    records.add(parts["image"], content, where)


def _members(shard: Path, labels: bool = True) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Each regular file of a tar, and with `labels` its content if it is a json of bounded size."""
    try:
        with open_file(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= _MOST:
                    raise UserError(f"{shard}: holds more than {_MOST:,} files: cut it into several shards")
                if not member.isreg() or member.sparse is not None or member.size > LARGEST:
                    continue
                data = b""
                if labels and member.name.lower().endswith(".json"):
                    if member.size > _LABELS:
                        raise UserError(f"{shard}: {member.name!r:.100} has {member.size:,} bytes, too many for labels")
                    opened = archive.extractfile(member)  # which reads, and writes nothing
                    data = opened.read() if opened else b""
                yield member, data
                vars(archive)["members"].clear()  # it would keep them all
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{shard}: not a readable tar file, which may not be compressed ({error})") from None


def _categories(data: bytes, shard: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{shard}: {META} is broken: remove it, or write the shard anew")
    return found
