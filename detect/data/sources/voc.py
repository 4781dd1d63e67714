"""Pascal VOC: an xml file for each image, in `Annotations/` and `JPEGImages/` (or `images/`), or beside it.

A box is read as its edges stand: x = xmin, y = ymin, w = xmax - xmin, h = ymax - ymin. (The VOC of 2012 counts pixels
from 1 and includes the last one; almost every tool that writes VOC xml since does not, and nothing in a file tells.)
`difficult` objects are ordinary ones to all but DOTA's evaluation, and each `bndbox` of an object is a box, each
`robndbox` an oriented one (see `rolabelimg`). Classes are numbered from 1 in the order of their names, over all xml
files, so that every split agrees. The splits are the lists
`ImageSets/Main/{split}.txt`, else folders called as splits (`train/`, `Annotations/valid/`); without either all xml
files together are the split `train`. A folder that holds one VOC folder (`VOCdevkit/VOC2012`) stands for it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from xml.etree import ElementTree

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords, EmptyDatasetError, NoClassError
from detect.data.image_formats import SUFFIXES
from detect.data.images import read_header
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import (
    IMAGE_FOLDERS,
    SPLITS,
    Finder,
    Inventory,
    Pairs,
    by_split,
    fold,
    folders_in,
    pair,
    parts_of,
    take_stock,
)
from detect.data.sources.rolabelimg import oriented, with_upright
from detect.errors import UserError
from detect.utils.text_files import read_text
from detect.utils.xml_files import read_xml

_XML_FOLDERS = ("annotations", "annotation", "xmls", "xml")
_MASKS = ("segmentationclass", "segmentationobject")  # images of the format's own that are no photos
_NOT_DIFFICULT = ("", "0", "false", "unspecified")
_YEAR = re.compile(r"voc\d{4}", re.IGNORECASE)


@dataclass(frozen=True)
class _Voc:
    """The files of a VOC folder: the xml files, sorted by folder and stem, and the images."""

    folder: Path
    places: list[str]  # the folders that hold the xml files
    xmls: list[str]
    stock: Inventory
    inside: Roots

    @cached_property
    def pairs(self) -> Pairs:
        """The xml file of each image; one that fits none by its folder has the only image of its name."""
        found = pair([*self.stock.images, *self.stock.unreadable], self.xmls)
        stems: dict[str, list[str]] = defaultdict(list)
        for image in (*self.stock.images, *self.stock.unreadable):
            stems[fold(_stem(image))].append(image)
        for xml in list(found.orphans):
            named = [image for image in stems[fold(_stem(xml))] or self._named(xml) if image not in found.label]
            if len(named) == 1:
                found.label[named[0]] = xml
                found.orphans.remove(xml)
        return found

    def _named(self, xml: str) -> list[str]:
        """The images that an xml file says to be about."""
        try:
            name = (read_xml(xml).findtext("filename") or "").strip().replace("\\", "/")
        except UserError:
            return []
        return [image for image in self.stock.images if name and os.path.basename(image) == os.path.basename(name)]

    @cached_property
    def image(self) -> dict[str, str]:
        """The image of each xml file that has one."""
        return {xml: image for image, xml in self.pairs.label.items()}

    def image_of(self, xml: str) -> str:
        """The image of an xml file; raises UserError where it has none of its own that can be used."""
        if (image := self.image.get(xml)) is None:
            other = next((image for image, other in self.pairs.others if other == xml), None)
            if other is None:
                raise UserError(f"{xml}: there is no image of its name")
            raise UserError(f"{xml}: {other} has another xml file, {self.pairs.label[other]}; keep one of them")
        if image in self.stock.unreadable:
            raise UserError(f"{image}: is in a format that cannot be decoded; convert it to JPEG or PNG")
        return image

    @cached_property
    def names(self) -> list[str]:
        """The classes of all xml files, sorted."""
        return sorted({name for xml in self.xmls for name in _class_names(xml)})


class Voc(Format):
    """A Pascal VOC folder, with its xml files in the usual places."""

    accepts = "a Pascal VOC folder"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        return voc_splits(source.path, inside=source.inside) if source.path.is_dir() else {}


class VocAnywhere(Format):
    """A folder that has VOC xml files in any folder below; tried after all other formats."""

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        return voc_splits(source.path, True, source.inside) if source.path.is_dir() else {}


def voc_splits(folder: Path, deep: bool = False, inside: Roots | None = None) -> Splits:
    """Return the reader of each split of a VOC folder; nothing where the folder is not one.

    `deep` looks for xml files in every folder below, not only where they are by custom.
    """
    inside = inside or Roots(folder)
    found = _open(folder, deep, inside) or _open_one_of(folder, inside)
    if found is None:
        return {}
    lists = split_lists(found.folder)
    if lists:
        return {split: partial(_load_list, found, path) for split, path in lists.items()}
    parts: dict[str, list[str]] = defaultdict(list)
    for xml in found.xmls:
        parts[_split_of(xml, found.folder)].append(xml)
    strays = parts.pop("", [])
    if not parts:
        return {"train": partial(_load_all, found, "", strays, [])}
    return {split: partial(_load_all, found, split, xmls, strays) for split, xmls in parts.items()}


def _open(folder: Path, deep: bool, inside: Roots) -> _Voc | None:
    """The files of a folder that has VOC annotations itself."""
    places = folders_in(folder, _XML_FOLDERS)
    if not places:
        places = [str(folder)] if deep else folders_in(folder, SPLITS)
    images = folders_in(folder, IMAGE_FOLDERS)
    inside.require(*places, *images)
    found = take_stock(*places, inside=inside) if places else Inventory()
    xmls = set(found.others[".xml"])
    if not deep:
        xmls |= {
            entry.path
            for entry in os.scandir(os.path.abspath(folder))
            if entry.name.lower().endswith(".xml") and entry.is_file() and inside.holds(entry.path)
        }
    if not any(map(_is_voc, sorted(xmls)[:8])):
        return None
    stock = take_stock(*(images or [str(folder)]), inside=inside)
    stock.outside += [link for link in found.outside if link not in stock.outside]
    if not images:
        stock.images = [file for file in stock.images if not set(map(fold, parts_of(file))) & set(_MASKS)]
    return _Voc(
        folder,
        places or [str(folder)],
        sorted(xmls, key=lambda xml: (parts_of(os.path.dirname(xml)), _stem(xml))),
        stock,
        inside,
    )


def _open_one_of(folder: Path, inside: Roots) -> _Voc | None:
    """The files of the one VOC folder that lies in a folder, or in its `VOCdevkit`."""
    try:
        places = [folder, *map(Path, folders_in(folder, ["vocdevkit"]))]
        inner = [child for place in places for child in sorted(place.iterdir()) if _YEAR.fullmatch(child.name)]
    except OSError:
        return None
    found = [voc for child in inner if child.is_dir() and (voc := _open(child, False, inside))]
    if len(found) > 1:
        names = ", ".join(voc.folder.name for voc in found)
        raise UserError(f"{folder}: holds several VOC folders, {names}; name one of them")
    return found[0] if found else None


def split_lists(folder: Path, kind: str = "main") -> dict[str, list[tuple[str, str]]]:
    """The lists in `ImageSets/Main` by split, as (where, name) of each line; lists of one class are passed over.

    `kind` is the name of another folder of `ImageSets/`, in small letters.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    places = [place for sets in folders_in(folder, ["imagesets"]) for place in folders_in(sets, [kind])]
    for path in sorted(file for place in places for file in Path(place).iterdir() if file.suffix.lower() == ".txt"):
        text = read_text(path, errors="surrogateescape")
        lines = [(f"{path} line {n}", line.split()) for n, line in enumerate(text.splitlines(), start=1)]
        if not any(len(words) > 1 and words[-1] in ("1", "0", "-1") for _, words in lines):
            found[path.stem] = [(record, " ".join(words)) for record, words in lines if words]
    return {split: found[name] for split, name in by_split(folder, found).items()}


def _split_of(path: str, folder: Path) -> str:
    """The split whose folder a file lies in, if any."""
    places = parts_of(os.path.relpath(path, folder))[:-1]
    return next((SPLITS[fold(place)] for place in places if fold(place) in SPLITS), "")


def _load_list(voc: _Voc, lines: list[tuple[str, str]], skip_bad: bool) -> Annotations:
    """The annotations of the images in the list of a split."""
    bad_records, finder = BadRecords(voc.folder, skip_bad), Finder()
    stems: dict[str, list[str]] = defaultdict(list)
    for file in voc.xmls:
        stems[fold(_stem(file))].append(file)
    chosen: dict[str, str] = {}
    for record, name in lines:
        whole = name.replace("\\", "/")
        bare, suffix = os.path.splitext(whole)
        bare += suffix if suffix.lower() not in SUFFIXES | {".xml"} else ""
        spelled = (
            os.path.join(place, f"{stem}.xml") for stem in (whole, bare) for place in voc.places
        )  # a.png: a.png.xml
        placed = (finder.find(os.path.abspath(path)) for path in spelled)
        alike = stems[fold(os.path.basename(bare))]
        xml = next(filter(None, placed), alike[0] if len(alike) == 1 else None)
        if xml is None:
            bad_records.reject(record, f"names {name!r}, but there is {'more than' if alike else 'not'} one {bare}.xml")
        elif other := chosen.get(xml):
            bad_records.reject(record, f"names {name!r}, which is named before ({other})")
        else:
            chosen[xml] = record
    return _load(voc, list(chosen), bad_records)


def _load_all(voc: _Voc, split: str, xmls: list[str], strays: list[str], skip_bad: bool) -> Annotations:
    """The annotations in all xml files of a split; `strays` lie in the folder of no split."""
    bad_records = BadRecords(voc.folder, skip_bad)
    bad_records.reject_all(voc.stock.leading_out())
    bad_records.reject_all(voc.stock.misnamed())
    for xml in filter(_is_voc, strays):
        bad_records.reject(xml, "lies in the folder of no split; move it to one")
    for image in (*voc.stock.images, *voc.stock.unreadable):
        if image not in voc.pairs.label and _split_of(image, voc.folder) in ("", split):
            bad_records.reject(image, "has no xml file; write one without objects if it shows none")
    return _load(voc, [xml for xml in xmls if xml in voc.image or _is_voc(xml)], bad_records)


def _load(voc: _Voc, xmls: list[str], bad_records: BadRecords) -> Annotations:
    """The annotations of the images of these xml files; raises UserError as `load_coco`."""
    number = {name: index for index, name in enumerate(voc.names, start=1)}
    images: list[dict] = []
    annotations: list[dict] = []
    where: list[str] = []
    for image_id, path in enumerate((path for path in xmls if path not in voc.pairs.copies), start=1):
        try:
            xml, image = read_xml(path), voc.image_of(path)
            height, width = _size(xml) or read_header(image).shown
        except UserError as error:
            bad_records.reject("cannot use an image:", str(error))
            continue
        if xml.tag != "annotation" and xml.find(".//object") is None:
            bad_records.reject(path, f"is no annotation of the VOC form: its root element is {xml.tag!r}")
            continue
        file = Path(os.path.relpath(image, voc.folder)).as_posix()
        images.append({"id": image_id, "file_name": file, "width": width, "height": height})
        for index, thing in enumerate(xml.iter("object"), start=1):
            category = number.get((thing.findtext("name") or "").strip())
            record = f"{Path(os.path.relpath(path, voc.folder)).as_posix()} object {index}"
            for box in [*thing.findall("bndbox"), *thing.findall("robndbox")] or [thing]:
                try:
                    found = oriented(box, f"{voc.folder}: {record}") if box.tag == "robndbox" else {"bbox": _box(box)}
                except ValueError as error:
                    bad_records.reject(record, str(error))
                    continue
                difficult = (thing.findtext("difficult") or "").strip().lower() not in _NOT_DIFFICULT
                annotations.append({"image_id": image_id, "category_id": category, "difficult": difficult, **found})
                where.append(record)
    with_upright(annotations)
    if not number:
        lines = bad_records.lines or [f"none of {len(xmls)} xml files has an object with a name"]
        empty = EmptyDatasetError(voc.folder, lines)
        if bad_records.lines or annotations:
            raise empty
        raise NoClassError(str(empty), images, voc.folder, voc.folder)
    categories = [{"id": index, "name": name} for name, index in number.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(content, voc.folder, voc.folder, bad_records, where, voc.inside)


def _is_voc(path: str) -> bool:
    """Whether an xml file is an annotation, or broken and so perhaps one."""
    try:
        return read_xml(path).tag == "annotation"
    except UserError:
        return True


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _class_names(path: str) -> set[str]:
    try:
        found = {(thing.findtext("name") or "").strip() for thing in read_xml(path).iter("object")}
    except UserError:
        return set()  # it is reported where the split that lists it is read
    return found - {""}


def _size(xml: ElementTree.Element) -> tuple[int, int] | None:
    """(h, w) as the file says, or None."""
    try:
        height, width = (int(float(xml.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _box(corners: ElementTree.Element) -> list[float] | None:
    try:
        x0, y0, x1, y1 = (float(corners.findtext(edge) or "") for edge in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    return [x0, y0, x1 - x0, y1 - y0]


def voc_of(path: Path, xmls: list[str], images: list[str], skip_bad: bool = False) -> Annotations:
    """Return the annotations in xml files, each of the image in the same place of `images`, wherever that lies.

    Raises UserError as `load_coco`.
    """
    inside = Roots(path, anywhere=True)
    voc = _Voc(path, [str(path)], xmls, Inventory(images=images), inside)
    voc.__dict__["pairs"] = Pairs(label=dict(zip(images, xmls, strict=True)))
    return _load(voc, xmls, BadRecords(path, skip_bad))
