"""Corrected labels, in whatever format they come back, and which image of the dataset each of theirs is."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords, NoClassError
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco, load_coco
from detect.data.sources.cvat import load_tracks
from detect.data.sources.formats import UnknownFormatError, recognise
from detect.data.sources.inventory import take_stock
from detect.data.sources.voc import voc_of
from detect.data.sources.yolo import declared_keypoints, load_yolo
from detect.errors import UserError
from detect.utils.json_files import read_json
from detect.utils.yaml_files import read_yaml

_UPLOADED = re.compile("^[0-9a-f]{8}-")  # what Label Studio puts before the names of uploaded files
Known = Sequence[tuple[Path, str]]  # the file of each image of a dataset, and its name there


def read_corrected(path: Path, known: Known, names: Sequence[str], skip_bad: bool) -> list[Annotations]:
    """Read corrected labels.

    Args:
        path: whatever `--data` takes, one COCO file, or label files of YOLO or VOC, or tracks of CVAT, without images.
        known: images of the dataset, by which label files without images are read.
        names: the classes of the dataset, in the order of its indices, for YOLO files that come without names.
        skip_bad: leave bad records out.

    Raises:
        UserError: it cannot be read.
    """
    if _is_coco(path):
        return [load_coco(path, path.parent, skip_bad, Roots(path.parent, anywhere=True))]
    try:
        return [_loaded(partial(load, skip_bad), names) for load in recognise(path, allow_outside=True).values()]
    except UnknownFormatError:
        found = _without_images(path, known, names, skip_bad)
        if found is None:
            raise
    except UserError as error:
        found = _without_images(path, known, names, skip_bad)
        if found is None:
            raise error
    return [found]


def _loaded(load: Callable[[], Annotations], names: Sequence[str]) -> Annotations:
    """What `load` returns; with these classes where no image has an object, so that the files name none."""
    try:
        return load()
    except NoClassError as error:
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        content = {"images": error.images, "annotations": [], "categories": categories}
        inside = Roots(error.root, anywhere=True)
        return from_coco(content, error.path, error.root, BadRecords(error.path, False), inside=inside)


def _is_coco(path: Path) -> bool:
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    content = read_json(path)
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _without_images(path: Path, known: Known, names: Sequence[str], skip_bad: bool) -> Annotations | None:
    """The labels in files whose images do not lie beside them; None where images do, or no such file.

    They are YOLO's or VOC's, or CVAT's tracks on the images of the dataset.
    """
    frames = [str(file.absolute()) for file, _ in sorted(known, key=lambda one: one[1])]
    for xml in [path] if path.suffix.lower() == ".xml" else sorted(path.glob("annotations*.xml")):
        if (tracks := load_tracks(xml, frames, skip_bad)) is not None:
            return tracks
    stock = take_stock(path, inside=Roots(path, anywhere=True)) if path.is_dir() else None
    if stock is None or stock.images:
        return None
    index = ImageIndex(known)
    xmls = sorted(stock.others[".xml"])
    if xmls:
        found = {xml: index.find(os.path.relpath(xml, path)) for xml in xmls}
        images = {xml: str(known[place][0]) for xml, place in found.items() if place is not None}
        if not images:
            return None
        return _loaded(lambda: voc_of(path, list(images), list(images.values()), skip_bad), names)
    texts = [
        file for file in sorted(stock.others[".txt"]) if os.path.basename(file) not in ("train.txt", "classes.txt")
    ]
    labels = {
        str(known[place][0]): file for file in texts if (place := index.find(os.path.relpath(file, path))) is not None
    }
    if not labels:
        return None
    yaml_path = next((path / name for name in ("data.yaml", "data.yml") if (path / name).is_file()), None)
    content = read_yaml(yaml_path) if yaml_path else None
    content = content if isinstance(content, dict) else {}
    given = content.get("names") or list(names)
    listed = list(map(str, given.values() if isinstance(given, dict) else given))
    keypoints = declared_keypoints(yaml_path or path, content)
    return load_yolo(path, list(labels), labels, listed, BadRecords(path, skip_bad), keypoints)


class ImageIndex:
    """Finds images by what is left of their paths in files of labels.

    Args:
        images: the file of each image, and its name in the dataset.
    """

    def __init__(self, images: Iterable[tuple[Path, str]]) -> None:
        self.names = list[list[str]]()
        self.files: Mapping[str, int] = {}
        self.by_base, self.by_stem = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        files = dict[str, int]()
        for place, (file, name) in enumerate(images):
            files[os.path.realpath(file)] = place
            parts = name.replace("\\", "/").split("/")
            self.names.append(parts)
            self.by_base[parts[-1].casefold()].append(place)
            self.by_stem[os.path.splitext(parts[-1])[0].casefold()].append(place)
        self.files = files

    def find(self, name: str, file: Path | None = None) -> int | None:
        """The index of the image that a name means; None if there is none.

        It is the one of the same file, else of those of the same last part (or of the same stem) the one that shares
        most folders with the name.

        Raises:
            UserError: several images fit as well.
        """
        if file is not None and (place := self.files.get(os.path.realpath(file))) is not None:
            return place
        parts = name.replace("\\", "/").strip("/").split("/")
        stem = os.path.splitext(parts[-1])[0]
        found = (
            self.by_base.get(parts[-1].casefold())
            or self.by_stem.get(stem.casefold())
            or self.by_base.get(stem.casefold())  # b.png.png is b.png where b.jpg had its stem
            or self.by_base.get(_UPLOADED.sub("", parts[-1].casefold()))
            or []
        )
        ranked = sorted(((self._shared(place, parts), place) for place in found), reverse=True)
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            both = " and ".join("/".join(self.names[place]) for _, place in ranked[:2])
            raise UserError(f"{name} may be {both}: keep the folders in the names of corrected images")
        return ranked[0][1] if ranked else None

    def _shared(self, place: int, parts: list[str]) -> tuple[int, bool]:
        """How many of the last folders a name shares with an image, and whether that is all of the image's name."""
        own, other = self.names[place][-2::-1], parts[-2::-1]
        count = next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), min(len(own), len(other)))
        return count, count == len(own)
