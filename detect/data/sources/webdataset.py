"""Shards of WebDataset: tar files of samples, the files of one name up to its first dot: `000139.jpg`, `000139.json`.

The json holds COCO's keys: `annotations`, each with `bbox` and `category_id` or `category`; or see `shards`. A folder
that also has a COCO file (`instances_train.json`) is read by that, which takes no look into the shards.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from detect.data.image_formats import SUFFIXES
from detect.data.shard_writers import META
from detect.data.sources.shards import Records, Shards
from detect.errors import UserError
from detect.storage.shards import LARGEST
from detect.utils.atomic_io import open_file

_LABELS = 2**26  # bytes of the json of one image
_MOST = 10_000_000  # files in a shard
_DOTS = "with a dot before the suffix, which WebDataset takes for other parts of a sample"


class WebDataset(Shards):
    """A folder of tar files, `train-000000.tar` …, or one such file."""

    suffix = ".tar"
    accepts = "WebDataset's shards, train-000000.tar …"

    def read(self, shard: Path, name: str, records: Records) -> None:
        """Add the samples of one file. Nothing is unpacked: names in it are keys, and parts of paths for people."""
        key, parts = None, dict[str, Any]()
        for member, data in _members(shard):
            if _irregular(member) or member.size > LARGEST:
                continue
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


def places(shard: Path, taken: Callable[[PurePosixPath], bool], skip: Callable[[str, str], None]) -> Iterator[str]:
    """Where each image and video of a tar is in it: see `detect.storage.shards`.

    Args:
        shard: the tar.
        taken: whether a file is an image or a video, by its name.
        skip: takes the name of each other file, and the reason where its name does not tell it.

    Raises:
        UserError: it cannot be read.
    """
    for member, _ in _members(shard, labels=False):
        _, stem, suffix = _key(member.name)
        name = PurePosixPath(member.name)
        if member.isdir():
            continue
        if why := _irregular(member):
            skip(member.name, why)
        elif taken(name) and suffix == name.suffix.lower():
            yield _place(member, stem, suffix)
        else:
            skip(member.name, _DOTS if taken(name) else "")


def _irregular(member: tarfile.TarInfo) -> str:
    """Why a member of a tar is no file whose bytes follow its header; "" for one that is."""
    if member.islnk() or member.issym():
        return "links"
    return "that are not files" if not member.isreg() else "with holes (sparse)" if member.sparse is not None else ""


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
    """Each member of a tar, and with `labels` its content if it is a json of bounded size."""
    try:
        with open_file(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= _MOST:
                    raise UserError(f"{shard}: holds more than {_MOST:,} files: cut it into several shards")
                data = b""
                if labels and member.name.lower().endswith(".json") and not _irregular(member):
                    if member.size > _LABELS:
                        raise UserError(f"{shard}: {member.name!r:.100} has {member.size:,} bytes, too many for labels")
                    opened = archive.extractfile(member)  # which reads, and writes nothing
                    data = opened.read() if opened else b""
                yield member, data
                vars(archive)["members"].clear()  # it would keep them all
            file.seek(archive.offset)
            if any(chunk.strip(b"\0") for chunk in iter(partial(file.read, 2**20), b"")):
                raise UserError(
                    f"{shard}: other files follow the end of the tar, as where several were joined by cat: join them "
                    "by tar --concatenate, or give them one by one"
                )
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
