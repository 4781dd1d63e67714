"""Label images: beside `images/`, a PNG for each image in `masks/` or `labels/`, of its size, one value a pixel.

Without a list of classes each value is an object of the one class `object`, and 0 is none. With `classes.txt`, beside
the two folders, each value is a class, and all its pixels in an image are one object; a value of 1000 or more is
1000 times a class and the number of an object, as in Cityscapes. Values that the list does not have are no object.

A line of `classes.txt` is a value and a name, or a name: names alone are the values 1, 2, …, and a first one that is
called background is 0, and no object. Where the list gives a name to 0 by its value, that is a class like others.
Values are those of grey images of 8 or 16 bits, or the indices of a palette, where 255 is the border that VOC leaves
unlabelled; images of colours are refused, but where the three are the same grey.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detect.data import rle
from detect.data.image_formats import FORMATS
from detect.data.images import read_header
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.paired import LOSSY, NOT_LOSSY, Found, paired_files, paired_splits
from detect.errors import UserError
from detect.utils.atomic_io import open_file
from detect.utils.names import require_names
from detect.utils.text_files import read_text

MASK_FOLDERS = ("masks", "mask", "segmentation", "segmentations")  # by their names of nothing else
FOLDERS = (*MASK_FOLDERS, "labels", "label", "annotations", "annotation")
SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")  # of formats without loss
_BORDER = 255  # in palettes, as of VOC
_MANY = 1000  # a value is so many times its class, and the number of the object


class LabelImages(Format):
    """A folder of images and of images of labels."""

    accepts = "a folder with images/ and masks/ of label images"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder. Raises UserError for a list of classes that is wrong."""
        return label_image_splits(source.path, source.inside) if source.path.is_dir() else {}


def label_image_splits(folder: Path, inside: Roots) -> Splits:
    """Return the reader of each split of a folder; nothing where it has no label images."""
    parts = paired_files(folder, FOLDERS, SUFFIXES, inside)
    if not parts:
        require_lossless(folder, inside)
        return {}
    classes = read_classes(folder / "classes.txt") if (folder / "classes.txt").is_file() else {}
    names = [classes[value] for value in sorted(classes)] or ["object"]
    return paired_splits(folder, parts, names, partial(_read, classes), inside)


def require_lossless(folder: Path, inside: Roots) -> None:
    """Raises UserError where the label images of a folder are JPEGs, which do not keep values."""
    for split in paired_files(folder, MASK_FOLDERS, LOSSY, inside).values():
        for image, label in split.labels.items():
            raise UserError(f"{image}: {NOT_LOSSY.format(label)}")


def read_classes(path: Path) -> dict[int, str]:
    """Return the name of each value that a list of classes gives. Raises UserError where it is wrong."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    words = [line.split(maxsplit=1) for line in lines]
    if lines and all(len(pair) == 2 and pair[0].isdecimal() for pair in words):
        values, names = [int(value) for value, _ in words], [name for _, name in words]
    else:
        first = 0 if lines and lines[0].strip("_").lower() == "background" else 1
        values, names = [*range(first, first + len(lines))], lines
        if not first:
            values, names = values[1:], names[1:]
    if not names:
        raise UserError(f"{path}: names no class; write one in each line")
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise UserError(f"{path}: value {twice} has two names; remove one")
    return dict(zip(values, require_names(names, values, path), strict=True))


def _read(classes: dict[int, str], path: str, found: Found) -> None:
    """Read the objects of a label image."""
    labels, palette = read_values(path, found.size)
    for value, record in value_records(labels):
        if classes:
            name = classes.get(value, classes.get(value // _MANY) if value >= _MANY else None)
        else:
            name = None if value == 0 or (palette and value == _BORDER) else "object"
        if name is None:
            continue
        found.add(f"{path} value {value}", record | {"category_id": name})


def value_records(labels: np.ndarray) -> list[tuple[int, dict[str, Any]]]:
    """Return each value of a label image (h, w), and the COCO record of its pixels, without a class."""
    values, codes, starts = rle.of_values(labels)
    boxes = rle.bounds(codes, starts, np.tile(labels.shape, (len(values), 1))).tolist()
    areas, records = np.bincount(np.searchsorted(values, labels.ravel())).tolist(), []
    for i, (value, (left, top, right, bottom)) in enumerate(zip(values.tolist(), boxes, strict=True)):
        counts = codes[starts[i] : starts[i + 1]].tobytes().decode()
        record = {"bbox": [left, top, right - left, bottom - top], "area": areas[i]}
        records.append((value, record | {"segmentation": {"size": list(labels.shape), "counts": counts}}))
    return records


def read_values(path: str, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Return the values (h, w) of a label image, and whether they are indices of a palette.

    Raises:
        UserError: it cannot be read, has no such values, or another size (h, w) than its image.
    """
    labels, palette = _values(path)
    if labels.shape != size:
        (height, width), (high, wide) = labels.shape, size
        raise UserError(f"{path}: has {width} x {height} pixels, its image {wide} x {high}; make them equal")
    return labels, palette


def _values(path: str) -> tuple[np.ndarray, bool]:
    header = read_header(path)  # raises for one that is too large
    try:
        with open_file(path) as file:
            opened = Image.open(file, formats=FORMATS)
            labels = np.asarray(opened)
    except Exception as error:  # Pillow's plugins raise what they like on a damaged file
        raise UserError(f"{path}: the image is damaged or truncated ({error})") from None
    if labels.ndim == 3 and header.mode in ("LA", "PA"):
        labels = labels[..., 0]
    if labels.ndim == 3 and (labels[..., :3] == labels[..., :1]).all():
        labels = labels[..., 0]
    if labels.dtype.kind == "f":
        raise UserError(f"{path}: has values that are not whole numbers ({header.mode}); save it with 8 or 16 bits")
    if labels.ndim != 2:
        raise UserError(
            f"{path}: is an image of colours ({header.mode}); a label image has one value a pixel, grey or of a palette"
        )
    return labels.astype(np.int64), header.mode == "P"
