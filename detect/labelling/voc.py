"""Pascal VOC: JPEGImages/, Annotations/ with an xml file for each image, and the lists ImageSets/Main/{split}.txt.

labelmap.txt names the classes, as CVAT and Datumaro need it where they are not those of VOC.

Boxes are written as their edges stand, as `detect.data.sources.voc` reads them. An oriented box is a `robndbox`, as
roLabelImg has it. Score, review, track and note are `attributes` of an object, as CVAT's VOC files have them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import torch

from anchors.oriented import corners_to_oriented
from detect.errors import UserError
from detect.labelling.labels import LabelObject, Labels, in_files
from detect.labelling.writer import LabelFormat
from detect.labelling.xml import child, number, write_xml
from detect.utils.atomic_io import replace_text

_LISTED = re.compile(r"\S+( \S+)*")  # what a line of a list can name


class VocLabels(LabelFormat):
    """An xml file for each image. Outlines and keypoints have no place in them: the boxes alone are written."""

    beside = True

    def image_folder(self, split: str) -> str:
        """All splits share one folder; the lists tell them apart."""
        return "JPEGImages"

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """See `LabelFormat.write`."""
        owner = dict[str, str]()
        for split, labels in sets.items():
            stems = []
            for image, name, path, size in in_files(labels):
                stems.append(stem := os.path.splitext(name)[0])
                if (other := owner.setdefault(stem.casefold(), split)) != split:
                    raise UserError(f"{name} is in the splits {other} and {split}, which share a folder: rename one")
                write_xml(out / "Annotations" / f"{stem}.xml", _document(labels.objects(image), path, size))
            if all(map(_LISTED.fullmatch, stems)):
                replace_text(out / f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems), durable=False)
            elif len(sets) > 1:
                odd = next(stem for stem in stems if not _LISTED.fullmatch(stem))
                raise UserError(f"a list of a split cannot name {odd!r}, with its blanks: rename the image")
        names = dict.fromkeys(name for labels in sets.values() for name in labels.names)
        classes = "".join(f"{name}:::\n" for name in names if not set(name) & set(":\n"))
        replace_text(out / "labelmap.txt", f"# label:color_rgb:parts:actions\n{classes}", durable=False)
        return [f"{out}: use it as --data"]


def _document(objects: list[LabelObject], path: Path, size: tuple[int, int]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    child(root, "folder", path.parent.name)
    child(root, "filename", path.name)
    child(root, "path", os.path.abspath(path))
    sides = child(root, "size")
    for name, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        child(sides, name, value)
    child(root, "segmented", 0)
    for one in objects:
        element = child(root, "object")
        child(element, "name", one.name)
        child(element, "pose", "Unspecified")
        child(element, "truncated", 0)
        child(element, "difficult", int(one.difficult))
        _box(element, one)
        if marks := one.marks():
            attributes = child(element, "attributes")
            for name, value in marks.items():
                entry = child(attributes, "attribute")
                child(entry, "name", name)
                child(entry, "value", str(value).lower() if isinstance(value, bool) else value)
    return root


def _box(element: ElementTree.Element, one: LabelObject) -> None:
    if one.corners is not None:
        turned = corners_to_oriented(torch.from_numpy(one.corners)[None])[0].tolist()
        box = child(element, "robndbox")
        for name, value in zip(("cx", "cy", "w", "h", "angle"), turned, strict=True):
            child(box, name, number(value))
        return
    x, y, w, h = one.box
    box = child(element, "bndbox")
    for name, value in (("xmin", x), ("ymin", y), ("xmax", x + w), ("ymax", y + h)):
        child(box, name, number(value))
