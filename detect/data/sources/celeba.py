"""CelebA (Liu et al. 2015, arXiv 1411.7766): `list_eval_partition.txt` and its other lists, also in Anno/ and Eval/.

With `img_celeba/` an image has the face of `list_bbox_celeba` and the five points of `list_landmarks_celeba`. With
`img_align_celeba/` alone the face is the whole image, its points are those of `list_landmarks_align_celeba`. For tasks
on whole images (embed, classify) the class of a face is its identity, of `identity_CelebA`. The lists are texts, or
tables of the same names as csv. Left and right are the viewer's, as in the lists. Attributes are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.images import read_header
from detect.data.roots import Roots
from detect.data.sources.base import Format, NamedFiles, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import folders_in
from detect.data.sources.values import listed_once
from detect.errors import UserError
from detect.utils.text_files import read_text

SPLITS = {"0": "train", "1": "val", "2": "test"}
POINTS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
WILD, ALIGNED = "img_celeba", "img_align_celeba"
HEAD = 2  # lines that may come before the rows of a list

Table = dict[str, list[str]]  # the values of each image, by its name


class CelebA(Format):
    """A folder with `list_eval_partition.txt`, in it or in `Eval/`, and `img_celeba/` or `img_align_celeba/`."""

    accepts = "CelebA's folder, with list_eval_partition.txt"
    files = ("partition", "images", "boxes", "landmarks", "identities")

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        if not source.path.is_dir() or (path := _find(source, "list_eval_partition")) is None:
            return {}
        return _splits(path, partial(_load_below, source, path))

    def named(self, source: Source, named: NamedFiles) -> Splits:
        """Return the readers of the splits: see `Format.named`. Without `boxes` the face is the whole image."""
        partition, images = named.require("partition", "images")
        boxes, points, identities = map(named.files.get, ("boxes", "landmarks", "identities"))
        if source.image_level_labels:
            (identities,) = named.require("identities")
        lists = _Lists(partition, images, boxes, points, identities if source.image_level_labels else None)
        return _splits(partition, partial(load_celeba, lists, named.inside))


class _Lists(NamedTuple):
    """The lists and the folder of images; without boxes the face is the whole image, without identities a face."""

    partition: Path
    images: Path
    boxes: Path | None
    points: Path | None
    identities: Path | None


def _splits(path: Path, load: Callable[[str, bool], Annotations]) -> Splits:
    """The reader of each split that the list of them has."""
    parts = sorted({row[0] for row in _table(path).values()})
    if unknown := [part for part in parts if part not in SPLITS]:
        raise UserError(f"{path}: partition {unknown[0]!r} is none of 0 (train), 1 (val) and 2 (test)")
    if not parts:
        raise UserError(f"{path}: lists no image; a line is the name of an image and 0, 1 or 2")
    return {SPLITS[part]: partial(load, part) for part in parts}


def _load_below(source: Source, partition: Path, part: str, skip_bad: bool = False) -> Annotations:
    """As `load_celeba`, with the lists and images that lie in a folder."""
    root = _image_folder(source)
    aligned = root.name.casefold() == ALIGNED
    boxes = None if aligned else _list(source, "list_bbox_celeba")
    points = _find(source, "list_landmarks_align_celeba" if aligned else "list_landmarks_celeba")
    identities = _list(source, "identity_CelebA") if source.image_level_labels else None
    return load_celeba(_Lists(partition, root, boxes, points, identities), source.inside, part, skip_bad)


def load_celeba(lists: _Lists, inside: Roots, part: str, skip_bad: bool = False) -> Annotations:
    """Read one split.

    Raises:
        UserError: a list lacks an image, or has words in place of numbers.
    """
    path, root = lists.partition, lists.images
    partition = _table(path)
    boxes, points, identity = (_table(one) if one else None for one in (lists.boxes, lists.points, lists.identities))
    names = ["face"] if identity is None else sorted({row[0] for row in identity.values()}, key=lambda n: (len(n), n))
    number, bad_records = {name: i for i, name in enumerate(names, start=1)}, BadRecords(path, skip_bad)
    images: list[dict] = []
    annotations: list[dict] = []
    for name in (name for name, row in partition.items() if row[0] == part):
        image = {"id": len(images) + 1, "file_name": name}
        try:
            if boxes is None:
                image["height"], image["width"] = read_header(root / name).shown
            box = _numbers(boxes, name, 4) if boxes is not None else [0, 0, image["width"], image["height"]]
            known = "face" if identity is None else _row(identity, name, 1)[0]
            one = {"image_id": image["id"], "category_id": number[known], "bbox": box}
            if points is not None:
                x_y = _numbers(points, name, 2 * len(POINTS))
                one["keypoints"] = [v for i in range(len(POINTS)) for v in (*x_y[2 * i : 2 * i + 2], 2)]
        except (UserError, ValueError) as error:
            bad_records.reject(name, str(error))
            continue
        images.append(image)
        annotations.append(one)
    categories: list[dict] = [{"id": i, "name": name} for name, i in number.items()]
    for category in categories if points is not None else ():
        category |= {"keypoints": POINTS, "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(content, path, root, bad_records, [image["file_name"] for image in images], inside)


def _places(source: Source) -> list[Path]:
    return [source.path, *map(Path, folders_in(source.path, ("anno", "eval", "img")))]


def _find(source: Source, name: str) -> Path | None:
    """The list of that name, as a text or a csv."""
    candidates = (place / f"{name}.{suffix}" for place in _places(source) for suffix in ("txt", "csv"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is not None:
        source.inside.require(found)
    return found


def _image_folder(source: Source) -> Path:
    for name in (WILD, ALIGNED):
        for place in _places(source):
            for folder in folders_in(place, (name,)):
                inner = folders_in(folder, (name,))  # as some archives unpack
                source.inside.require(*inner, folder)
                return Path(inner[0] if inner else folder)
    raise UserError(f"{source.path}: has neither {WILD}/ nor {ALIGNED}/ with CelebA's images")


def _list(source: Source, name: str) -> Path:
    """The list of that name. Raises UserError where there is none."""
    if (path := _find(source, name)) is None:
        raise UserError(f"{source.path}: there is no {name}.txt, nor {name}.csv")
    return path


def _table(path: Path) -> Table:
    """The rows of a list; a line with the number of images and one with the names of the columns may come first.

    Raises:
        UserError: a line is no name of an image with values, or an image has two rows that differ.
    """
    rows = list[tuple[str, list[str]]]()
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        row = text.replace(",", " ").split()
        if len(row) > 1 and "." in row[0]:
            rows.append((row[0], row[1:]))
        elif row and (line > HEAD or "." in row[0]):
            raise UserError(f"{path} line {line}: {text[:60]!r} is not the name of an image and its values")
    return listed_once(path, rows)


def _row(table: Table, name: str, count: int) -> list[str]:
    row = table.get(name, [])
    if len(row) < count:
        raise ValueError("is not in every list, or not with all values")
    return row


def _numbers(table: Table, name: str, count: int) -> list[float]:
    row = _row(table, name, count)[:count]
    try:
        return [float(value) for value in row]
    except ValueError:
        raise ValueError(f"has {' '.join(row)[:60]!r} in place of {count} numbers") from None
