"""Images without labels: the annotations of a folder of images, none of which has an object."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import take_stock
from detect.errors import UserError
from detect.storage.resolve import local
from detect.utils.atomic_io import read_bytes


def load_unlabelled(folder: str | Path, skip_bad: bool = False, allow_outside: bool = False) -> Annotations:
    """The images below a folder, in the order of their paths, as a dataset without objects.

    Args:
        folder: the folder; that of labelled images will do.
        skip_bad: leave out files that cannot be used and list them in `left_out`.
        allow_outside: also follow links that lead out of the folder.

    Raises:
        UserError: there is no such folder, it holds no image, or a file cannot be used.
    """
    root = local(folder)
    if not root.is_dir():
        raise UserError(f"{folder}: there is no such folder; --unlabelled takes a folder of images")
    inside = Roots(root, anywhere=allow_outside)
    stock = take_stock(root, inside=inside)
    bad_records = BadRecords(folder, skip_bad)
    for left in (stock.leading_out(), stock.undecoded(), stock.misnamed()):
        bad_records.reject_all((os.path.relpath(path, root), why) for path, why in left)
    images = [{"id": i, "file_name": os.path.relpath(path, root)} for i, path in enumerate(stock.images, 1)]
    data = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "unlabelled"}]}
    return from_coco(data, root, root, bad_records, inside=inside)


def without_copies(unlabelled: Annotations, splits: Mapping[str, Annotations]) -> tuple[Annotations, dict[str, int]]:
    """Leave out images whose files are equal, byte by byte, to one of a split: they have labels, or must have none.

    Args:
        unlabelled: the images.
        splits: the annotations of each split.

    Returns:
        The other images, each that is left out with a line in `left_out`; how many are in each split.

    Raises:
        UserError: none is left, or a file cannot be read.
    """
    lengths = [_length(unlabelled, i) for i in range(len(unlabelled))]
    sizes = set(lengths)
    known: dict[tuple[int, str], tuple[str, str]] = {}
    for split, one in splits.items():
        for i in range(len(one)):
            if (length := _length(one, i)) in sizes:  # only such files need be read
                known.setdefault((length, _digest(one, i)), (split, one.file_name(i)))
    sizes = {length for length, _ in known}
    lines, counts = dict[int, str](), dict.fromkeys(splits, 0)
    for i, length in enumerate(lengths):
        if length in sizes and (copy := known.get((length, _digest(unlabelled, i)))):
            lines[i] = f"{unlabelled.path}: {unlabelled.file_name(i)} is the same image as {copy[1]} of {copy[0]}"
            counts[copy[0]] += 1
    good = np.delete(np.arange(len(unlabelled)), list(lines))
    if not len(good):
        raise UserError(f"{unlabelled.path}: all its images are in the dataset too: there is none without labels")
    kept = unlabelled.select(good, left_out=[*unlabelled.left_out, *lines.values()])
    return kept, {split: count for split, count in counts.items() if count}


def _length(annotations: Annotations, index: int) -> int:
    path = annotations.image_path(index)
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def _digest(annotations: Annotations, index: int) -> str:
    path = annotations.image_path(index)
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
