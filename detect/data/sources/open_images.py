"""Open Images (Kuznetsova et al. 2020, arXiv 1811.00982): its csv files, beside `train/`, `validation/`, `test/`.

    class-descriptions-boxable.csv                        LabelName,DisplayName
    validation-annotations-bbox.csv                       ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,…
    validation-annotations-human-imagelabels-boxable.csv  ImageID,Source,LabelName,Confidence (1 shows it, 0 does not)
    bbox_labels_600_hierarchy.json                        {LabelName, Subcategory: [{LabelName, …}, …]}

or those of a challenge (`challenge-2019-validation-detection-bbox.csv`), in the folder itself or one below. Boxes with
IsGroupOf are crowd regions. An image was checked for the classes that its labels and boxes name, what these are kinds
of, and the kinds of what it does not show. Sets are rarely downloaded whole, so rows of images that are not on disk are
counted in a note.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.federation import Federation
from detect.data.images import read_header
from detect.data.roots import Roots
from detect.data.sources.base import Format, NamedFiles, Source, Splits
from detect.data.sources.coco import from_coco
from detect.data.sources.inventory import SPLITS, by_split, folders_in, take_stock
from detect.data.sources.values import listed_once
from detect.errors import UserError
from detect.utils.json_files import read_json
from detect.utils.names import counted

_BOXES = re.compile(r"(?:(?:oidv\d-)?(.+)-annotations-bbox|challenge-\d+-(.+)-detection-bbox)\.csv")
_LABELS = re.compile(
    r"(?:(?:oidv\d-)?(.+)-annotations-human-imagelabels(?:-boxable)?|challenge-\d+-(.+)-detection-human-imagelabels)\.csv"
)
_EDGES = ("XMin", "XMax", "YMin", "YMax")


class _Files(NamedTuple):
    """The files of one split: boxes, and labels of images; those of all splits: the classes, and the hierarchy."""

    boxes: Path
    labels: Path | None
    classes: Path
    hierarchy: Path | None


@dataclass
class _Checked:
    """The labels that each image is known to show, and not to show."""

    shown: dict[str, set[int]] = field(default_factory=dict)
    absent: dict[str, set[int]] = field(default_factory=dict)


class OpenImages(Format):
    """A folder with `{split}-annotations-bbox.csv` and `class-descriptions-boxable.csv`, or those of a challenge."""

    accepts = "Open Images' folder, with class-descriptions-boxable.csv"
    files = ("classes", "hierarchy")
    split_files = ("annotations", "labels", "images")

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        files = _files(source) if source.path.is_dir() else {}
        return {
            split: partial(_load_below, source, files[name], name)
            for split, name in by_split(source.path, files).items()
        }

    def named(self, source: Source, named: NamedFiles) -> Splits:
        """Return the readers of the splits: see `Format.named`."""
        (classes,), found = named.require("classes"), Splits()
        for split, given in named.splits.items():
            boxes, images = named.require("annotations", "images", split=split)
            files = _Files(boxes, given.get("labels"), classes, named.files.get("hierarchy"))
            found[split] = partial(_load, files, images, named.inside)
        return found


def _files(source: Source) -> dict[str, _Files]:
    """The files of each split, by the name that the split has in them."""
    found = [*sorted(source.path.glob("*.csv")), *sorted(source.path.glob("*/*.csv"))]
    boxes, labels = (
        {m[1] or m[2]: path for path in found if (m := form.fullmatch(path.name))} for form in (_BOXES, _LABELS)
    )
    if not boxes:
        return {}
    classes = [path for path in found if "class-descriptions" in path.name or "classes-description" in path.name]
    if not classes:
        raise UserError(f"{source.path}: has boxes of Open Images, but no class-descriptions-boxable.csv")
    classes.sort(key=lambda path: "boxable" not in path.name)
    trees = [*sorted(source.path.glob("*hierarchy*.json")), *sorted(source.path.glob("*/*hierarchy*.json"))]
    source.inside.require(*boxes.values(), *labels.values(), *classes, *trees)
    return {
        name: _Files(path, labels.get(name), classes[0], trees[0] if trees else None) for name, path in boxes.items()
    }


def _load_below(source: Source, files: _Files, split: str, skip_bad: bool) -> Annotations:
    """As `_load`, with the images in the folder that is called as the split."""
    return _load(files, _folder(source, split), source.inside, skip_bad)


def _load(files: _Files, root: Path, inside: Roots, skip_bad: bool) -> Annotations:
    """The images of one split that are on disk. Raises UserError for a row of another form, or of an unknown class."""
    path, names = files.boxes, _classes(files.classes)
    number = {label: i for i, label in enumerate(names)}
    stock = take_stock(root, inside=inside)
    images = {Path(image).stem: Path(image).relative_to(root.absolute()).as_posix() for image in stock.images}
    bad_records, checked, missing = BadRecords(path, skip_bad), _Checked(), set[str]()
    records: list[dict] = []
    where: list[str] = []
    for line, row in _rows(path, ("ImageID", "LabelName", *_EDGES), bad_records):
        image, label = row["ImageID"], number.get(row["LabelName"])
        if image not in images:
            missing.add(image)
        elif label is None:
            bad_records.reject(f"line {line}", f"has a class {row['LabelName']!r:.60} that {files.classes} lacks")
        else:
            checked.shown.setdefault(image, set()).add(label)
            records.append({"image": image, "category_id": label + 1, "edges": [row[edge] for edge in _EDGES]})
            records[-1]["iscrowd"] = int(row.get("IsGroupOf", "0") == "1")
            where.append(f"line {line}")
    boxed = {image: set(labels) for image, labels in checked.shown.items()}
    if files.labels:
        missing |= _read_labels(files.labels, number, images, checked, bad_records)
    known = sorted(checked.shown.keys() | checked.absent.keys())
    made = _annotations(
        path, root, {image: images[image] for image in known}, records, names, bad_records, where, inside
    )
    kept = [Path(made.file_name(i)).stem for i in range(len(made))]
    parents = _parents(files.hierarchy, number)
    notes = [*made.notes, *_notes(missing, set(images) - set(known), root)]
    return replace(made, federation=_federation(kept, checked, boxed, parents), measured_as="open_images", notes=notes)


def _rows(path: Path, needed: tuple[str, ...], bad_records: BadRecords) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a csv by the names of its columns, each with its line; one at a time, for there may be millions."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if lacking := [name for name in needed if name not in (table.fieldnames or ())]:
                raise UserError(f"{path}: has no column {lacking[0]}")
            for row in table:
                if any(row.get(name) is None for name in needed):
                    bad_records.reject(f"line {table.line_num} of {path.name}", "has fewer columns than the first line")
                else:
                    yield table.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as csv: {error}") from None


def _classes(path: Path) -> dict[str, str]:
    """The name of each class by its label, such as /m/01g317, in the order of the file; a heading may come first."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as csv: {error}") from None
    if bad := [row for row in rows if len(row) < 2]:
        raise UserError(f"{path}: {bad[0][0][:60]!r} is not a label and the name of a class")
    return listed_once(path, [(row[0].strip(), row[1].strip()) for row in rows if row[0].strip() != "LabelName"])


def _folder(source: Source, split: str) -> Path:
    """The folder of a split's images."""
    alike = [name for name, meant in SPLITS.items() if meant == SPLITS.get(split, split)]
    places = [str(source.path), *folders_in(source.path, ("images", "data"))]
    folders = [one for place in places for one in folders_in(place, dict.fromkeys([split.casefold(), *alike]))]
    if not folders:
        raise UserError(f"{source.path}: there is no folder {split}/ of images")
    source.inside.require(*folders)
    return Path(folders[0])


def _read_labels(
    path: Path, number: dict[str, int], images: dict[str, str], checked: _Checked, bad_records: BadRecords
) -> set[str]:
    """Add the verified labels of images to `checked`; returns the images that are not on disk."""
    missing = set[str]()
    for line, row in _rows(path, ("ImageID", "LabelName", "Confidence"), bad_records):
        image, label = row["ImageID"], number.get(row["LabelName"])
        if image not in images:
            missing.add(image)
        elif label is not None:  # the file may have classes without boxes
            confidence = _share(row["Confidence"])
            if confidence is None:
                told = f"has confidence {row['Confidence']!r:.40}, not 0 to 1"
                bad_records.reject(f"line {line} of {path.name}", told)
                continue
            (checked.shown if confidence else checked.absent).setdefault(image, set()).add(label)
    return missing


def _share(text: str) -> float | None:
    """A number from 0 to 1; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _annotations(
    path: Path,
    root: Path,
    files: dict[str, str],
    records: list[dict],
    names: dict[str, str],
    bad_records: BadRecords,
    where: list[str],
    inside: Roots,
) -> Annotations:
    """Boxes in pixels: those of the csv are shares of the sides of their image."""
    number = {image: i for i, image in enumerate(files, start=1)}
    sizes: dict[str, tuple[int, int]] = {}
    images: list[dict] = []
    for image, file in files.items():
        try:
            height, width = sizes[image] = read_header(root / file).shown
        except UserError as error:
            bad_records.reject("cannot use an image:", str(error))
            continue
        images.append({"id": number[image], "file_name": file, "width": width, "height": height})
    annotations, lines = list[dict[str, Any]](), list[str]()
    for record, line in zip(records, where, strict=True):
        if (image := record.pop("image")) in sizes:
            height, width = sizes[image]
            annotations.append({**record, "image_id": number[image], "bbox": _box(record["edges"], width, height)})
            lines.append(line)
    categories = [{"id": i, "name": name} for i, name in enumerate(names.values(), start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(content, path, root, bad_records, lines, inside)


def _box(edges: list[str], width: int, height: int) -> list[float] | None:
    try:
        left, right, top, bottom = map(float, edges)
    except ValueError:
        return None
    return [left * width, top * height, (right - left) * width, (bottom - top) * height]


def _parents(path: Path | None, number: dict[str, int]) -> tuple[tuple[int, ...], ...] | None:
    """For each class all classes that it is a kind of, as the hierarchy has them; its root is no class."""
    if path is None:
        return None
    found: list[set[int]] = [set() for _ in number]

    nodes: list[tuple[Any, tuple[int, ...]]] = [(read_json(path), ())]
    while nodes:
        node, above = nodes.pop()
        name, children = (node.get("LabelName"), node.get("Subcategory", [])) if isinstance(node, dict) else (None, [])
        if not (isinstance(name, str) and isinstance(children, list)):
            raise UserError(f"{path}: a class of the hierarchy is {{LabelName, Subcategory: [...]}}, not {node!r:.60}")
        if (label := number.get(name)) is not None:
            found[label].update(above)
            above = (*above, label)
        nodes += [(child, above) for child in children]
    return tuple(tuple(sorted(one)) for one in found)


def _federation(
    images: list[str], checked: _Checked, boxed: dict[str, set[int]], parents: tuple[tuple[int, ...], ...] | None
) -> Federation:
    """What is known of each image; classes that it shows without a box of their own are partial."""
    kinds: dict[int, set[int]] = {}
    for label, above in enumerate(parents or ()):
        for one in above:
            kinds.setdefault(one, set()).add(label)
    every, partial_labels = list[set[int]](), list[set[int]]()
    for image in images:
        shown, absent = checked.shown.get(image, set()), checked.absent.get(image, set())
        present = shown | {above for label in shown for above in (parents[label] if parents else ())}
        missing = absent | {kind for label in absent for kind in kinds.get(label, ())}
        every.append(present | missing)
        partial_labels.append(present - boxed.get(image, set()))
    return Federation.of(every, partial_labels, parents=parents)


def _notes(missing: set[str], unknown: set[str], root: Path) -> Iterator[tuple[str, str]]:
    if missing:
        line = f"{counted(len(missing), 'image')} of the csv files, such as {min(missing)}, not in {root}: not used"
        yield "unused", line
    if unknown:
        yield "unused", f"{counted(len(unknown), 'image')} in {root}, such as {min(unknown)}, in no csv file: not used"
