"""WIDER FACE (Yang et al. 2016, arXiv 1511.06523): `wider_face_split/` and `WIDER_train/images/`, `WIDER_val/images/`.

A text for each split has, for each image, its name, the number of faces, and a row for each face: `x y w h blur
expression illumination invalid occlusion pose`. After a 0 stands one row of zeros, which is no face. Invalid faces are
crowd regions: detections there are neither right nor wrong, and training ignores them. Those without area, and rows of
zeros, are counted in a note. The test set, of which only a list of images is published, is no split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.roots import Roots
from detect.data.sources.base import Format, NamedFiles, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import by_split
from detect.errors import UserError
from detect.utils.names import counted
from detect.utils.text_files import read_text

_FILE = re.compile(r"wider_face_(.+)_bbx_gt\.txt")
_COUNT = re.compile(r"\d{1,9}")
_INVALID = 7  # place in a row
_ROW = "a row is ten whole numbers: x y w h blur expression illumination invalid occlusion pose"


class WiderFace(Format):
    """A folder with `wider_face_split/wider_face_{split}_bbx_gt.txt` and `WIDER_{split}/images/`."""

    accepts = "WIDER FACE's folder, with wider_face_split/"
    split_files = ("annotations", "images")

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        folder = source.path
        if not folder.is_dir():
            return {}
        texts = sorted(folder.glob("wider_face_split/wider_face_*_bbx_gt.txt"))
        found = {match[1]: path for path in texts if (match := _FILE.fullmatch(path.name))}
        splits: Splits = {}
        for split, name in by_split(folder, found).items():
            root = folder / f"WIDER_{name}" / "images"
            source.inside.require(found[name], root)
            splits[split] = partial(load_wider_face, found[name], root, inside=source.inside)
        return splits

    def named(self, source: Source, named: NamedFiles) -> Splits:
        """Return the readers of the splits: see `Format.named`."""
        splits: Splits = {}
        for split in named.splits:
            annotations, images = named.require("annotations", "images", split=split)
            splits[split] = partial(load_wider_face, annotations, images, inside=named.inside)
        return splits


def load_wider_face(path: Path, root: Path, skip_bad: bool = False, inside: Roots | None = None) -> Annotations:
    """Read the text of one split. Raises UserError for one of another form, and for a row that is no face."""
    bad_records = BadRecords(path, skip_bad)
    images: list[dict] = []
    annotations: list[dict] = []
    where: list[str] = []
    empty, known = 0, set[str]()
    for name, rows in _images(path):
        if name in known:
            bad_records.reject(f"image {name}", "is listed twice")
            continue
        known.add(name)
        images.append({"id": len(images) + 1, "file_name": name})
        for line, text in rows:
            try:
                values = [int(word) for word in text.split()]
            except ValueError:
                values = []
            if len(values) != 10:
                bad_records.reject(f"line {line}", f"is {text[:60]!r}: {_ROW}")
                continue
            without_area = min(values[2:4]) == 0
            if without_area and (values[_INVALID] or not any(values)):
                empty += 1
                continue
            annotations.append({"image_id": len(images), "category_id": 1, "bbox": values[:4]})
            annotations[-1]["iscrowd"] = int(bool(values[_INVALID]))
            where.append(f"line {line}")
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    made = from_coco(content, path, root, bad_records, where, inside)
    notes = list(made.notes)
    if empty:
        notes.append(("unused", f"{counted(empty, 'face')} without area, marked invalid or all zeros, not used"))
    return replace(made, notes=notes, measured_as="wider_face")


def _images(path: Path) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The name of each image and its rows, each with the number of its line."""
    lines = [line.strip() for line in read_text(path, errors="surrogateescape").splitlines()]
    at = 0
    while at < len(lines):
        if not (name := lines[at]):
            at += 1
            continue
        if at + 1 >= len(lines) or not _COUNT.fullmatch(lines[at + 1]):
            raise UserError(f"{path} line {at + 2}: after the name of an image stands the number of its faces")
        count, start = int(lines[at + 1]), at + 2
        end = start + count
        if end > len(lines):
            raise UserError(f"{path} line {at + 2}: says {count} faces, but the file ends before; is it complete?")
        yield name, [(n + 1, lines[n]) for n in range(start, end)]
        if not count and start < len(lines) and set(lines[start].split()) == {"0"}:
            end += 1
        at = end
