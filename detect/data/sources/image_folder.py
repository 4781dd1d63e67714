"""Labels of whole images: a folder of classes, or a csv. Each image becomes one box, as large as the image.

- FOLDER/CLASS/…/image, or FOLDER/train/CLASS/…, FOLDER/val/CLASS/…
- a csv with a column `file` (relative to the csv), a column `label`, `class` or `identity`, and perhaps `split`

Where there are no splits, a fifth of each class's images, or of the classes, becomes the split `val`, drawn with a seed
that is always 0: the split is a property of the data, the same for every run. A class of one image keeps it for
training. Classes are numbered from 1 in the order of their names, over all splits.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.image_formats import is_image
from detect.data.images import read_header
from detect.data.roots import LEAVES, OUTSIDE, Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import SPLITS, Leftover, by_split, fold, split_name, take_stock
from detect.errors import UserError
from detect.utils.names import say
from detect.utils.text_files import read_text

VAL_SHARE = 0.2
FILES, LABELS = ("file", "image", "path"), ("label", "class", "identity")

Pair = tuple[str, str]  # the file, relative to the root, and its class


class ImageFolder(Format):
    """A folder with a folder of images for each class, or a csv of files and their classes."""

    accepts = "a folder with a folder of images for each class, or a csv of files and labels"
    image_level = True

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits."""
        return labelled_splits(source.path, source.image_level_labels, source.inside)


def labelled_splits(path: Path, drawn_from: str = "images", inside: Roots | None = None) -> Splits:
    """Return the reader of each split of a folder of classes or a csv; nothing where `path` is neither.

    `drawn_from`: where there are no splits, what the split `val` is drawn from: "images" of each class, or "classes".
    """
    inside = inside or Roots(path if path.is_dir() else path.parent)
    if path.is_dir():
        return _folder_splits(path, drawn_from, inside)
    return _csv_splits(path, drawn_from, inside) if path.suffix.lower() == ".csv" and path.is_file() else {}


def load_labelled(
    path: Path,
    root: Path,
    pairs: Sequence[Pair],
    names: Sequence[str],
    inside: Roots,
    left: Iterable[Leftover] = (),
    skip_bad: bool = False,
) -> Annotations:
    """Make annotations of images below `root` with their classes; `left` are files that cannot be used.

    Raises UserError for an image that cannot be read, and for a file in `left`.
    """
    bad_records = BadRecords(path, skip_bad)
    bad_records.reject_all(left)
    number = {name: i for i, name in enumerate(names, start=1)}
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, (file, label) in enumerate(pairs, start=1):
        if not inside.let_in([file], root)[0]:
            bad_records.reject(repr(file), LEAVES)
            continue
        try:
            height, width = read_header(root / file).shown
        except UserError as error:
            bad_records.reject("cannot use an image:", str(error))
            continue
        images.append({"id": image_id, "file_name": file, "width": width, "height": height})
        box = [0, 0, width, height]
        annotations.append({"id": image_id, "image_id": image_id, "category_id": number[label], "bbox": box})
    categories = [{"id": i, "name": name} for name, i in number.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(content, path, root, bad_records, [str(root / image["file_name"]) for image in images], inside)


def divided(pairs: Sequence[Pair], drawn_from: str = "images") -> dict[str, list[Pair]]:
    """Split images into train and val, with seed 0: some of each class, or all of some classes."""
    rng = np.random.default_rng(0)
    if drawn_from == "classes":
        names = sorted({label for _, label in pairs})
        count = max(2, round(VAL_SHARE * len(names)))  # one alone is not different from anyone
        apart = {names[i] for i in rng.permutation(len(names))[:count]}
        return {split: [p for p in sorted(pairs) if (p[1] in apart) == (split == "val")] for split in ("train", "val")}
    files: dict[str, list[str]] = {}
    for file, label in sorted(pairs):
        files.setdefault(label, []).append(file)
    found: dict[str, list[Pair]] = {"train": [], "val": []}
    for label, mine in sorted(files.items()):
        held = set(rng.permutation(len(mine))[: max(len(mine) > 1, round(VAL_SHARE * len(mine)))].tolist())
        for i, file in enumerate(mine):
            found["val" if i in held else "train"].append((file, label))
    return {split: pairs for split, pairs in found.items() if pairs}


def _splits(
    path: Path,
    root: Path,
    parts: dict[str, list[Pair]],
    drawn_from: str,
    left: dict[str, list[Leftover]],
    inside: Roots,
) -> Splits:
    names = sorted({label for pairs in parts.values() for _, label in pairs})
    if set(parts) != {""}:
        told = {split: (parts[split], names, inside, left.get(split, ())) for split in parts}
        return {split: partial(load_labelled, path, root, *told[split]) for split in parts}

    def load(split: str, pairs: list[Pair], skip_bad: bool) -> Annotations:
        if not pairs:
            raise UserError(
                f"{path}: of {len(names)} classes, two become the split val and none is left to train on: "
                "add more classes"
            )
        if split == "val":
            part = "a fifth of each class" if drawn_from == "images" else "a fifth of the classes"
            say(f"{path} has no splits: {part} becomes the split val (seed 0)", file=sys.stderr)
        said = left.get("", ()) if split == "train" else ()
        return load_labelled(path, root, pairs, names, inside, said, skip_bad)

    return {split: partial(load, split, pairs) for split, pairs in divided(parts[""], drawn_from).items()}


def _folder_splits(folder: Path, drawn_from: str, inside: Roots) -> Splits:
    folders = _folders(folder)
    alike = [d for d in folders if fold(d.name) in SPLITS]
    if len(alike) < len(folders):  # beside `Bus` and `Car` a `Train` is a class; in small letters it is a split
        alike = [d for d in alike if d.name in SPLITS]
    inside.require(*alike)
    inner = {split: folder / name for split, name in by_split(folder, (d.name for d in alike)).items()}
    parts: dict[str, list[Pair]] = {}
    left: dict[str, list[Leftover]] = {}
    for split, d in (inner or {"": folder}).items():
        parts[split], left[split] = _classes(d, folder, inside)
    if not any(parts.values()):
        return {}
    for split, pairs in parts.items():
        if not pairs:
            raise UserError(f"{inner[split]}: holds no folder of a class with images in it")
    if inner:
        apart = [d for d in folders if d not in alike and take_stock(d, inside=inside).images]
        why = f"holds images, but is called like no split; rename it to one of {', '.join(SPLITS)}, or move it away"
        left[next(iter(inner))] += [(str(d), why) for d in apart]
    return _splits(folder, folder, parts, drawn_from, left, inside)


def _folders(folder: Path) -> list[Path]:
    return sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))


def _classes(folder: Path, root: Path, inside: Roots) -> tuple[list[Pair], list[Leftover]]:
    """The images in the folders of classes of `folder`, if any folder holds some, and what cannot be used."""
    known = {d: inside.holds(os.path.abspath(d)) for d in _folders(folder)}
    found = {d.name: take_stock(d, inside=inside) for d, held in known.items() if held}
    if not any(stock.images for stock in found.values()):
        return [], []
    for name, stock in found.items():
        if not stock.images and not stock.unreadable:
            raise UserError(f"{folder / name}: a class without an image; fill the folder or remove it")
    if loose := sorted(f for f in folder.iterdir() if is_image(f) and f.is_file()):
        raise UserError(f"{loose[0]}: lies beside the folders of classes, so it has no class; move it into one")
    told = ((*stock.leading_out(), *stock.undecoded(), *stock.misnamed()) for stock in found.values())
    left = [leftover for leftovers in told for leftover in leftovers]
    left += [(str(d), f"is a link that {OUTSIDE}") for d, held in known.items() if not held]
    base = os.path.abspath(root)
    pairs = [(Path(os.path.relpath(f, base)).as_posix(), name) for name, stock in found.items() for f in stock.images]
    return pairs, left


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    """Return the columns of a csv, in small letters, and its rows by them. Raises UserError where it cannot be read."""
    try:
        table = csv.DictReader(io.StringIO(read_text(path), newline=""))
        columns = [name.strip().lower() for name in table.fieldnames or ()]
        if twice := next((name for name in columns if name and columns.count(name) > 1), None):
            raise UserError(f"{path}: two columns are called {twice!r}; rename one")
        table.fieldnames = columns
        return columns, list(table)
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as csv: {error}") from None


def _csv_splits(path: Path, drawn_from: str, inside: Roots) -> Splits:
    columns, rows = read_csv(path)
    where, what = (next((name for name in known if name in columns), None) for known in (FILES, LABELS))
    if where is None or what is None:
        missing = " or ".join(LABELS if where else FILES)
        raise UserError(f"{path}: the first line names no column {missing}; it has: {', '.join(columns) or 'none'}")
    parts: dict[str, list[Pair]] = {}
    seen: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        file, label, split = (str(row.get(key) or "").strip() for key in (where, what, "split"))
        split = split_name(split)
        if not file or not label or ("split" in columns and split not in SPLITS):
            lacks = where if not file else what if not label else f"split (one of {', '.join(SPLITS)})"
            raise UserError(f"{path} line {line}: has no {lacks}")
        if (other := seen.setdefault(file, line)) != line:
            raise UserError(f"{path} line {line}: {file} is in line {other} already, and an image has one {what}")
        parts.setdefault(split if "split" in columns else "", []).append((file, label))
    if not parts:
        raise UserError(f"{path}: the table is empty: it names no image")
    return _splits(path, path.parent, parts, drawn_from, {}, inside)
