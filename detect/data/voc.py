"""Pascal VOC: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/{split}.txt`.

A box is read as its edges stand: x = xmin, y = ymin, w = xmax - xmin, h = ymax - ymin. (The VOC of 2012 counts pixels
from 1 and includes the last one; almost every tool that writes VOC xml since does not, and nothing in a file tells.)
`difficult` objects are ordinary ones. Classes are numbered from 1 in the order of their names, over all xml files, so
that every split agrees. Without `ImageSets/Main` all xml files together are the split `train`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from detect.data.annotations import from_coco
from detect.data.check import Sieve
from detect.data.images import is_image, read_header
from detect.data.store import Annotations
from detect.errors import UserError


def voc_splits(folder: Path) -> dict[str, Callable[[bool], Annotations]]:
    """The loader of each split of a VOC folder; none where the folder is not one."""
    if not (folder / "Annotations").is_dir() or not (folder / "JPEGImages").is_dir():
        return {}
    lists = {path.stem: _listed(path) for path in sorted((folder / "ImageSets" / "Main").glob("*.txt"))}
    lists = {split: stems for split, stems in lists.items() if stems is not None}
    if not lists:
        lists = {"train": sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))}
    return {split: partial(load_voc, folder, stems or []) for split, stems in lists.items()}


def load_voc(folder: Path, stems: list[str], skip_bad: bool = False) -> Annotations:
    """The store of the images of a VOC folder whose xml files have these stems; raises UserError as `load_coco`."""
    sieve = Sieve(folder, skip_bad)
    names = sorted({name for path in (folder / "Annotations").glob("*.xml") for name in _class_names(path)})
    number = {name: index for index, name in enumerate(names, start=1)}
    files = {path.stem: path.name for path in sorted((folder / "JPEGImages").iterdir()) if is_image(path)}
    images: list[dict] = []
    annotations: list[dict] = []
    where: list[str] = []
    for image_id, stem in enumerate(stems, start=1):
        path = folder / "Annotations" / f"{stem}.xml"
        try:
            xml = _parse(path)
            file = files.get(stem) or Path((xml.findtext("filename") or "").strip()).name
            height, width = _size(xml) or read_header(folder / "JPEGImages" / file).shown
        except UserError as error:
            sieve.refuse("cannot use an image:", str(error))
            continue
        images.append({"id": image_id, "file_name": f"JPEGImages/{file}", "width": width, "height": height})
        for index, thing in enumerate(xml.iter("object"), start=1):
            category = number.get((thing.findtext("name") or "").strip())
            annotations.append({"image_id": image_id, "category_id": category, "bbox": _box(thing)})
            where.append(f"Annotations/{path.name} object {index}")
    categories = [{"id": index, "name": name} for name, index in number.items()]
    return from_coco(
        {"images": images, "annotations": annotations, "categories": categories}, folder, folder, sieve, where
    )


def _listed(path: Path) -> list[str] | None:
    """The stems in a list of a split; None for a list of one class (`cat_train.txt`), whose lines have two columns."""
    lines = [line.split() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    if any(len(words) > 1 and words[-1] in ("1", "0", "-1") for words in lines):
        return None
    return [" ".join(words) for words in lines]


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: broken xml: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _class_names(path: Path) -> set[str]:
    try:
        found = {(thing.findtext("name") or "").strip() for thing in _parse(path).iter("object")}
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


def _box(thing: ElementTree.Element) -> list[float] | None:
    try:
        x0, y0, x1, y1 = (float(thing.findtext(f"bndbox/{edge}") or "") for edge in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    return [x0, y0, x1 - x0, y1 - y0]
