"""Folders of images and, in a folder beside them, a label file for each image.

    images/x.jpg, LABELS/x.txt             the split `train`
    images/train/x.jpg, LABELS/train/x.txt the splits that folders are called after
    train/images/x.jpg, train/LABELS/x.txt likewise

An image and its label file have the same name but for the suffix, in the same place below the two folders.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.images import read_header
from detect.data.roots import Roots
from detect.data.sources.base import Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import (
    IMAGE_FOLDERS,
    SPLITS,
    Inventory,
    Leftover,
    fold,
    folders_in,
    parts_of,
    suffix_of,
    take_stock,
)
from detect.errors import UserError

LOSSY = (".jpg", ".jpeg", ".jfif")
NOT_LOSSY = "has the label image {}, whose values JPEG has changed; export it as PNG"
NO_LABELS = "has no label file in {}; write one without objects if it shows none"

Read = Callable[[str, "Found"], None]
"""Reads the label file at a path into the records of its image; raises UserError where it cannot be used."""


@dataclass
class Split:
    """The files of one split: its images, the label file of each that has one, and what cannot be used."""

    images: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    left: list[Leftover] = field(default_factory=list)


@dataclass
class Found:
    """What a label file holds, as it is read.

    Attributes:
        size: (h, w) of the image, as viewers show it.
        objects: COCO records without ids, of which `category_id` is the name or number of the class.
        where: how messages call each of the objects.
        bad: objects that cannot be used.
    """

    size: tuple[int, int]
    objects: list[dict[str, Any]] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    bad: list[Leftover] = field(default_factory=list)

    def add(self, where: str, record: dict[str, Any]) -> None:
        """Add one object."""
        self.where.append(where)
        self.objects.append(record)


def paired_files(folder: Path, names: Collection[str], suffixes: Collection[str], inside: Roots) -> dict[str, Split]:
    """Return the files of each split of a folder; nothing where no folder of labels lies beside one of images.

    Args:
        folder: the dataset.
        names: of folders of labels, in small letters.
        suffixes: of label files.
        inside: the folders whose files may be used.
    """
    found: dict[str, Split] = defaultdict(Split)
    for place in [str(folder), *folders_in(folder, SPLITS)]:
        split = SPLITS.get(fold(os.path.basename(place)), "") if place != str(folder) else ""
        images = folders_in(place, IMAGE_FOLDERS)
        labels = [one for one in folders_in(place, names) if _labels(take_stock(one, inside=inside), suffixes)]
        if not images or not labels:
            continue
        inside.require(images[0], labels[0])
        _add(found, images[0], labels[0], suffixes, split, inside)
        for one, other in (*((one, images[0]) for one in images[1:]), *((one, labels[0]) for one in labels[1:])):
            found[split].left.append((one, f"is a second folder beside {other}; keep one of them"))
    used = {split: files for split, files in found.items() if files.labels}
    for split in found.keys() - used.keys():
        next(iter(used.values()), Split()).left.extend(found[split].left)
    return {split or "train": files for split, files in used.items()}


def _add(
    found: dict[str, Split], images: str, labels: str, suffixes: Collection[str], split: str, inside: Roots
) -> None:
    """Add the files of a folder of images and of that of their labels to the splits that they belong to."""
    stock, others = take_stock(images, inside=inside), take_stock(labels, inside=inside)
    index = {_key(file, labels): file for file in _labels(others, suffixes)}
    lossy = {_key(file, labels): file for file in _labels(others, LOSSY)} if ".png" in suffixes else {}
    for image in stock.images:
        files_of_split = found[split or _split_of(image, images)]
        files_of_split.images.append(image)
        if (label := index.pop(_key(image, images), None)) is not None:
            files_of_split.labels[image] = label
        else:
            jpeg = lossy.get(_key(image, images))
            files_of_split.left.append((image, NOT_LOSSY.format(jpeg) if jpeg else NO_LABELS.format(labels)))
    for label in index.values():
        found[split or _split_of(label, labels)].left.append((label, f"is a label file without an image in {images}"))
    left = [*stock.leading_out(), *others.leading_out(), *stock.undecoded(), *stock.misnamed()]
    for file, reason in left:
        found[split or _split_of(file, images)].left.append((file, reason))


def _labels(stock: Inventory, suffixes: Collection[str]) -> list[str]:
    """The label files in a folder."""
    files = [*stock.images, *(file for some in stock.others.values() for file in some)]
    return [file for file in files if suffix_of(file) in suffixes]


def _key(file: str, folder: str) -> str:
    return fold(os.path.splitext(os.path.relpath(file, folder))[0])


def _split_of(file: str, folder: str) -> str:
    """The split whose folder, directly below `folder`, a file lies in; "" for none."""
    return SPLITS.get(fold(parts_of(os.path.relpath(file, folder))[0]), "")


def paired_splits(folder: Path, parts: dict[str, Split], names: list[str], read: Read, inside: Roots) -> Splits:
    """Return the reader of each split; `read` reads one label file, and `names` are the classes."""
    return {split: partial(_load, folder, files, names, read, inside) for split, files in parts.items()}


def _load(folder: Path, files: Split, names: list[str], read: Read, inside: Roots, skip_bad: bool) -> Annotations:
    bad_records = BadRecords(folder, skip_bad)
    bad_records.reject_all(files.left)
    images, annotations, where = list[dict](), list[dict](), list[str]()
    number = {name: index for index, name in enumerate(names, start=1)}
    for image_id, (image, label) in enumerate(
        sorted(files.labels.items(), key=lambda pair: parts_of(pair[0])), start=1
    ):
        try:
            found = Found(read_header(image).shown)
            read(label, found)
        except UserError as error:
            bad_records.reject("cannot use an image:", str(error))
            continue
        bad_records.reject_all(found.bad)
        name = Path(os.path.relpath(image, folder)).as_posix()
        images.append({"id": image_id, "file_name": name, "width": found.size[1], "height": found.size[0]})
        for record in found.objects:
            category = number.get(record["category_id"])
            annotations.append(record | {"image_id": image_id, "category_id": category})
        where += found.where
    categories = [{"id": index, "name": name} for name, index in number.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(content, folder, folder, bad_records, where, inside)
