"""Pascal VOC's masks: `SegmentationObject/`, a PNG of the objects of each image, and `SegmentationClass/`, of classes.

`--data VOC2012/SegmentationObject` reads objects, `--data VOC2012/SegmentationClass` all pixels of a class in an image
as one object; a VOC folder without xml files is read as its `SegmentationObject/`, or the other one. The class of an
object is the one that most of its pixels have in `SegmentationClass/`. The value 255, void, is no object; where classes
are read it is a crowd region, which is neither learned nor measured. Images lie in `JPEGImages/` (or `images/`). The
splits are the lists `ImageSets/Segmentation/{split}.txt`; without them all masks are the split `train`.

The values of classes are named by `classes.txt` (see `label_images`), or by `labelmap.txt`, as CVAT writes it: the
first line is 0; without either they are the twenty classes of VOC.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.inventory import fold, folders_in
from detect.data.sources.label_images import SUFFIXES, read_classes, read_values, value_records
from detect.data.sources.paired import Found, Split, paired_files, paired_splits
from detect.data.sources.voc import split_lists
from detect.errors import UserError
from detect.utils.text_files import read_text

OBJECTS, CLASSES = "segmentationobject", "segmentationclass"
VOID = 255
NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle"),
    *("bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike"),
    *("person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class VocMasks(Format):
    """A VOC folder's `SegmentationObject/` or `SegmentationClass/`."""

    accepts = "SegmentationObject/ or SegmentationClass/ of a VOC folder"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder. Raises UserError for a list of classes that is wrong."""
        if not source.path.is_dir():
            return {}
        name = fold(source.path.resolve().name)
        if name in (OBJECTS, CLASSES):
            folder = source.path.resolve().parent
            return voc_mask_splits(folder, (name,), Roots(folder, anywhere=source.allow_outside))
        return voc_mask_splits(source.path, (OBJECTS, CLASSES), source.inside)


def voc_mask_splits(folder: Path, kinds: tuple[str, ...], inside: Roots) -> Splits:
    """Return the reader of each split of a VOC folder, of the first of `kinds` that it has; nothing without any."""
    kind = next((one for one in kinds if folders_in(folder, [one])), None)
    parts = paired_files(folder, [kind], SUFFIXES, inside) if kind else {}
    if not parts:
        return {}
    place = next(iter(folders_in(folder, [CLASSES])), None)
    if place is None:
        raise UserError(f"{folder}: SegmentationObject has no classes: add SegmentationClass beside it")
    names = _names(folder)
    read = partial(_read_objects, names, Path(place)) if kind == OBJECTS else partial(_read_classes, names)
    ordered = list(dict.fromkeys(names[value] for value in sorted(names)))
    return paired_splits(folder, _by_list(folder, parts), ordered, read, inside)


def _by_list(folder: Path, parts: dict[str, Split]) -> dict[str, Split]:
    """The files of each split that `ImageSets/Segmentation` lists; without lists those of `parts`."""
    lists, labels = split_lists(folder, "segmentation"), dict[str, tuple[str, str]]()
    for part in parts.values():
        labels |= {fold(Path(image).stem): (image, label) for image, label in part.labels.items()}
    found: dict[str, Split] = {}
    for split, lines in lists.items():
        files = found[split] = Split()
        for where, name in lines:
            if (pair := labels.get(fold(Path(name).name))) or (pair := labels.get(fold(Path(name).stem))):
                files.images.append(pair[0])
                files.labels[pair[0]] = pair[1]
            else:
                files.left.append((where, f"names {name!r}, of which there is no image with a mask"))
    return found or parts


def _names(folder: Path) -> dict[int, str]:
    """The name of each value of a class."""
    if (path := folder / "classes.txt").is_file():
        return read_classes(path)
    if not (path := folder / "labelmap.txt").is_file():
        return dict(enumerate(NAMES, start=1))
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    names = {value: line.split(":")[0].strip() for value, line in enumerate(lines)}
    return {value: name for value, name in names.items() if value or name.lower() != "background"}


def _read_objects(names: dict[int, str], place: Path, path: str, found: Found) -> None:
    """Read the objects of a mask, whose class is in the file of the same name in the folder `place`."""
    labels, _ = read_values(path, found.size)
    classes = next((file for suffix in SUFFIXES if (file := place / f"{Path(path).stem}{suffix}").is_file()), None)
    if classes is None:
        raise UserError(f"{path}: there is no image of its name in {place}, which has the classes of objects")
    values, _ = read_values(str(classes), found.size)
    known = (values > 0) & (values != VOID) & (labels > 0) & (labels != VOID)
    pairs, counts = np.unique(np.stack([labels[known], values[known]], 1), axis=0, return_counts=True)
    most: dict[int, int] = {}
    for i in np.argsort(counts, kind="stable").tolist():  # the largest share comes last
        most[int(pairs[i, 0])] = int(pairs[i, 1])
    for value, record in value_records(labels):
        where, number = f"{path} object {value}", most.get(value)
        if value not in (0, VOID) and number is None:
            found.bad.append((where, f"has no class: its pixels are background or void in {classes}"))
        elif value not in (0, VOID) and number not in names:
            found.bad.append((where, f"has class {number}, which has no name; write its name into classes.txt"))
        elif number is not None:
            found.add(where, record | {"category_id": names[number]})


def _read_classes(names: dict[int, str], path: str, found: Found) -> None:
    """Read the pixels of each class of a mask as one object, and void pixels as a crowd region."""
    for value, record in value_records(read_values(path, found.size)[0]):
        where = f"{path} class {value}"
        if value == VOID:
            found.add(where, record | {"category_id": next(iter(names.values())), "iscrowd": 1})
        elif value in names:
            found.add(where, record | {"category_id": names[value]})
        elif value:
            found.bad.append((where, "has no name; write its name into classes.txt"))
