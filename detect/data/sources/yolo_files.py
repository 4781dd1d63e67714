"""The images and label files that a split of YOLO's `data.yaml` names: in a folder, in a list, or one by one.

The labels of `…/images/x.jpg` are in `…/labels/x.txt` (the last part `images` of the path is replaced), or beside the
image, or in a folder `labels` above it. See `inventory.pair` for how names are compared. Labels that lie flat in
`labels/` while the images are in `images/train/` are found too, unless one may belong to several images.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from detect.data.bad_records import BadRecords
from detect.data.image_formats import SUFFIXES, UNREADABLE
from detect.data.roots import OUTSIDE, Roots
from detect.data.sources.inventory import (
    NEVER_IMAGES,
    Finder,
    Inventory,
    Keys,
    fold,
    label_folders,
    label_levels,
    pair,
    parts_of,
    suffix_of,
    take_stock,
)
from detect.errors import UserError
from detect.storage import is_url
from detect.storage.resolve import beside
from detect.utils.atomic_io import TREES
from detect.utils.names import may_be_a_file
from detect.utils.text_files import read_text

_BYTE = re.compile("[\udc80-\udcff]")  # one that is no UTF-8, in a name
_COMPANY = ("classes", "readme", "notes", "license", "labels", "names", "predefined_classes", "requirements")


def yolo_files(
    path: Path, split: str, base: Path, entry: Any, bad_records: BadRecords, inside: Roots
) -> tuple[list[str], dict[str, str], Roots]:
    """Return the images of a split, absolute and sorted, the label file of each that has one, and where both may lie.

    `entry` is a folder, a text file that lists images, an image, or a list of such, relative to `base`, or to the YAML
    at `path`. The files of folders and lists must lie `inside`, in `base`, in such a folder, or in that of the list.
    `bad_records` takes those that do not, and: images that cannot be decoded, an image listed twice, a label file
    without an image in the folders named, two label files of one image, two images with one label file.
    """
    finder, folders, named = Finder(), list[str](), dict[str, str]()
    for part in entry if isinstance(entry, list) else [entry]:
        place = _place(path, split, base, str(part), finder, inside)
        inside = inside.adding(base, place if os.path.isdir(place) else os.path.dirname(place))
        if os.path.isdir(place):
            folders.append(place)
        elif suffix_of(place) in SUFFIXES | UNREADABLE:
            _note(named, place, f"{split}: {part}", bad_records)
        else:
            for number, line in enumerate(read_text(place, errors="surrogateescape").splitlines(), start=1):
                if not line.strip():
                    continue
                if not may_be_a_file(line.strip()):  # and to look for its labels would take long
                    bad_records.reject(f"{place} line {number}", f"names {line[:60]!r}…, which no file can be called")
                else:
                    file = _listed(line.strip(), (os.path.dirname(place), str(base)), finder)
                    if _BYTE.search(line) and not os.path.exists(file):
                        read_text(place)  # raises: the list is in another encoding than the names of the files
                    if inside.holds(file):
                        _note(named, file, f"{place} line {number}", bad_records)
                    else:
                        bad_records.reject(f"{place} line {number}", f"names {file}, which {OUTSIDE}")
    stock = take_stock(*folders, inside=inside)
    here = set(stock.images).union(stock.unreadable)
    for file in named.keys() - here:
        (stock.unreadable if suffix_of(file) in UNREADABLE else stock.images).append(file)
    if named:
        stock.images.sort(key=parts_of)
    bad_records.reject_all(stock.leading_out())
    bad_records.reject_all(stock.undecoded())
    bad_records.reject_all(stock.misnamed())
    if not stock.images and not bad_records.lines:
        raise UserError(f"{path}: {split}: there is no image in {entry}")
    return *_paired(stock, folders, os.path.abspath(base), finder, bad_records, inside), inside


def _place(path: Path, split: str, base: Path, entry: str, finder: Finder, inside: Roots) -> str:
    """The file or folder that an entry means, absolute."""
    if is_url(entry) or (TREES in str(path) and os.path.isabs(entry)):
        return str(beside(path.parent, entry, inside))
    bare = entry.replace("\\", "/")
    places = [base / entry, path.parent / entry, base / bare, path.parent / bare]
    if bare.startswith("../"):  # some exporters write ../train/images for train/images
        places.append(path.parent / bare[3:])
    for place in places:
        if os.path.exists(place):
            return os.path.abspath(place)
    for place in places:
        if found := finder.find(os.path.abspath(place)):
            return found
    raise UserError(f"{path}: {split}: there is no {places[0]}; 'path' is relative to the YAML, the splits to 'path'")


def _note(named: dict[str, str], file: str, record: str, bad_records: BadRecords) -> None:
    """One image that is named by itself, in `record`."""
    if other := named.get(file):
        bad_records.reject(record, f"names {file}, which is named before ({other})")
    named.setdefault(file, record)


def _listed(line: str, bases: Iterable[str], finder: Finder) -> str:
    """The file that a line of a list means; where there is none, where it should be."""
    places = [os.path.abspath(os.path.join(base, name)) for name in (line, line.replace("\\", "/")) for base in bases]
    return next((found for place in places if (found := finder.find(place))), places[-1])


def _paired(
    stock: Inventory, folders: list[str], base: str, finder: Finder, bad_records: BadRecords, inside: Roots
) -> tuple[list[str], dict[str, str]]:
    """The images that may be used, and the label file of each that has one."""
    beside = {place for folder in folders for place in label_folders(folder, base, finder)}
    alone = _alone(stock, folders)
    inside = inside.adding(*_own_labels([*folders, *alone], base, finder))
    for place in [place for place in sorted(beside) if not inside.holds(place)]:
        bad_records.reject(place, f"holds labels, but {OUTSIDE}")
        beside.remove(place)
    near = take_stock(*beside, inside=inside)
    bad_records.reject_all(near.leading_out())
    whole = {*stock.others[".txt"], *near.others[".txt"]}
    for label in (file for suffix in near.others.keys() - NEVER_IMAGES for file in near.others[suffix]):
        if _has_rows(label, empty=False):
            bad_records.reject(label, "holds labels, but its name does not end in .txt; rename it")
    labels = whole | {text for text in _texts_near(alone, base, finder) if inside.holds(text)}
    pairs = pair([*stock.images, *stock.unreadable], sorted(labels))
    for image, label in pairs.others:
        if _has_rows(label):
            bad_records.reject(label, f"and {pairs.label[image]} are both labels of {image}, and differ; keep one")
    owners = {label: image for image, label in pairs.label.items()}
    for image, label in pairs.shared:
        bad_records.reject(image, f"has the label file of {owners.get(label)}, {label}; give each image its own")
    for label in pairs.orphans:
        if label in whole and _has_rows(label):
            bad_records.reject(label, "is a label file without an image; add its image, or remove it")
    shared = {image for image, _ in pairs.shared}
    for image, label, alike in _flat_labels([image for image in stock.images if image not in pairs.label], base):
        if not inside.holds(label):
            bad_records.reject(label, f"is the label file of {image}, but {OUTSIDE}")
        elif alike == [image] and image not in shared:
            pairs.label.setdefault(image, label)
        elif image not in shared:
            others = ", ".join(one for one in alike if one != image)
            bad_records.reject(
                image, f"may have the label file {label}, and so may {others}; put labels into folders as images"
            )
            shared.add(image)
    return [image for image in stock.images if image not in shared], pairs.label


def _own_labels(folders: Iterable[str], base: str, finder: Finder) -> Iterator[str]:
    """The folders of labels that belong to folders of images by their names, and that no link takes away from them."""
    for folder in folders:
        for labels in label_folders(folder, base, finder):
            if Roots(os.path.commonpath([folder, labels])).holds(labels):
                yield labels


def _flat_labels(images: Iterable[str], base: str) -> Iterator[tuple[str, str, list[str]]]:
    """Label files of images that have none by custom, flat in a folder above: `A/labels/x.txt` of `A/images/B/x.jpg`.

    Yields the image, the label file, and all images below A that it may belong to: none of them lies where it belongs.
    """
    keys = Keys()
    flat: dict[str, list[tuple[str, dict[str, list[str]]]]] = {}  # folder of images -> folder A, its label files
    below: dict[str, dict[str, list[str]]] = {}  # folder A -> images
    for image in images:
        place, name = os.path.split(image)
        if place not in flat:
            folders = [labels for labels, _ in label_levels(place, base)]
            flat[place] = [(os.path.dirname(one), _by_stem(_texts_in(one))) for one in folders]
        for above, labels in flat[place]:
            for label in (one for key in {_stem(name), fold(name)} for one in labels.get(key, [])):
                if above not in below:
                    below[above] = _by_stem(take_stock(above).images)
                alike = below[above][_stem(name)]
                if all(keys(os.path.dirname(one)) != keys(os.path.dirname(label)) for one in alike):
                    yield image, label, alike


def _texts_in(folder: str) -> list[str]:
    """The text files directly in a folder."""
    return [os.path.join(folder, name) for name in os.listdir(folder) if suffix_of(name) == ".txt"]


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[_stem(path)].append(path)
    return found


def _stem(path: str) -> str:
    return fold(os.path.splitext(os.path.basename(path))[0])


def unlabelled(images: Sequence[str], labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A note on each folder of images of which not one has a label file."""
    folders: dict[str, list[str]] = defaultdict(list)
    for image in images:
        folders[os.path.dirname(image)].append(image)
    for folder, inside in folders.items():
        if labels.keys().isdisjoint(inside):
            said = (
                f"none of the {len(inside)} images in {folder} has a label file, so all count as images without objects"
            )
            yield "unlabelled", f"{said}; labels belong beside the images, or into a folder labels like images"


def _alone(stock: Inventory, folders: list[str]) -> set[str]:
    """The folders of images that were named one by one."""
    inside = tuple(folder + os.sep for folder in folders)
    return {os.path.dirname(file) for file in (*stock.images, *stock.unreadable) if not file.startswith(inside)}


def _texts_near(places: set[str], base: str, finder: Finder) -> set[str]:
    """The text files where the labels of images in some folders may lie."""
    found = set[str]()
    for place in {near for one in places for near in (one, *label_folders(one, base, finder))}:
        if os.path.isdir(place):
            found.update(_texts_in(place))
    return found


def _has_rows(label: str, empty: bool = True) -> bool:
    """Whether a text file holds rows of labels, or nothing, as the labels of an image without objects (if `empty`)."""
    if os.path.splitext(os.path.basename(label))[0].lower() in _COMPANY:
        return False
    try:
        first = next((line.split() for line in read_text(label).splitlines() if line.strip()), [])
        return empty if not first else (len(first) >= 5 and all(float(word) == float(word) for word in first[1:5]))
    except (UserError, ValueError):
        return False
