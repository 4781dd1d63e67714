"""COCO json files, by path or by the folder that holds them.

Left to the reader of the file: `info`, `licenses` and keys of one's own are passed over.
Optional are `iscrowd`, `area`, `difficult`, annotation `id`, `width`, `height`, `file_name`'s folder, category `name`,
and the `bbox` of an annotation with a `segmentation`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations, encode_names
from detect.data.bad_records import BadRecords, EmptyDatasetError
from detect.data.categories import class_names, keypoint_names, skeleton_pairs, without_root
from detect.data.federation import LVIS_KEYS, lvis_federation
from detect.data.groups import starts_of
from detect.data.outline_parts import picked
from detect.data.outlines import Outlines
from detect.data.roots import Roots, any_leaves, rebased
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco_cache import record_cache
from detect.data.sources.coco_columns import annotation_columns, give_boxes, image_columns
from detect.data.sources.coco_outlines import fitting_images, packed, with_frames
from detect.data.sources.coco_table import AnnotationTable, TableBuilder
from detect.data.sources.coco_typed import joined_tables, typed_table
from detect.data.sources.image_names import FIRST, as_on_disk, image_folder, image_roots
from detect.data.sources.inventory import by_split
from detect.data.sources.values import whole
from detect.errors import UserError
from detect.storage import is_url
from detect.storage.resolve import as_local
from detect.utils.json_files import read_json, uncollected
from detect.utils.json_parts import Quick, read_in_parts
from detect.utils.names import warn_once

_FILE = re.compile(r"(instances|person_keypoints)_(.+?)((?:19|20)\d\d)?\.json")
_IMAGE_KEYS = ("id", "file_name", "coco_url", "height", "width", *LVIS_KEYS)  # what is kept of the record of an image
_FILE_NAME = methodcaller("get", "file_name")
_SHAPE = "COCO-format json is an object with the lists 'images', 'annotations' and 'categories'"


class Coco(Format):
    """A folder with `instances_{split}.json` or `person_keypoints_{split}.json`, in it or in `annotations/`.

    A year in the name is ignored: COCO's own `instances_val2017.json` is the split `val`. Of several years the last is
    taken, of both kinds the instances. Or a folder with `{split}/_annotations.coco.json`, as Roboflow exports it.
    """

    accepts = "a folder with instances_train.json, or with COCO's annotations/"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder; nothing where a data.yaml in it names files and images."""
        if not source.path.is_dir() or (isinstance(source.yaml, dict) and any(map(_names_files, source.yaml.values()))):
            return {}
        return coco_folder(source.path, source.inside)


def _names_files(part: Any) -> bool:
    """Whether a part of a data.yaml is that of a split: see `detect.data.sources.split_yaml`."""
    return isinstance(part, dict) and "annotations" in part


def coco_folder(folder: Path, inside: Roots) -> Splits:
    """Return the reader of each COCO file in a folder, by its split."""
    found = _named_files(folder, folder, inside) or _named_files(folder / "annotations", folder, inside)
    if not found:
        files = {path.parent.name: path for path in sorted(folder.glob("*/_annotations.coco.json"))}
        for split, name in by_split(folder, files).items():
            found[split] = coco_loader(files[name], image_roots(files[name].parent), inside)
    return found


def _named_files(folder: Path, base: Path, inside: Roots) -> Splits:
    found: Splits = {}
    matches = [match for path in sorted(folder.glob("*.json")) if (match := _FILE.fullmatch(path.name))]
    for kind in ("person_keypoints", "instances"):  # instances last: they win, and so does the last year
        files = {match[2]: match for match in matches if match[1] == kind}
        for split, name in by_split(folder, files).items():
            roots = image_roots(base, name + (files[name][3] or ""), name)
            found[split] = coco_loader(folder / files[name][0], roots, inside)
    return found


def coco_loader(path: Path, roots: list[Path], inside: Roots) -> Callable[[bool], Annotations]:
    """Return the reader of one COCO file, whose images lie in the first of `roots` that holds one of the first images.

    Raises UserError where the file is not among the dataset's own.
    """
    inside.require(path)
    return partial(load_coco, path, roots, inside=inside)


def load_coco(
    path: str | Path,
    root: str | Path | Sequence[Path] | None = None,
    skip_bad: bool = False,
    inside: Roots | None = None,
) -> Annotations:
    """Read a COCO file. Image names are relative to `root`, by default the folder of the file.

    Of several roots it is the first that holds one of the first images (see `image_folder`).
    Raises UserError naming file, record and remedy for: broken json, json that is not COCO-shaped, a duplicate id, an
    undeclared category, an annotation of an unknown image, a box with NaN, infinite or negative size, a file name that
    leaves the image folder (absolute, with `..`, or by a link that leads out of the folders `inside`, by default that
    one), no image at all. With `skip_bad` a bad image or annotation is left out and listed in `left_out`; of duplicates
    the first stays. Images are not looked at.
    """
    path = Path(path)
    places = [Path(root or path.parent)] if root is None or isinstance(root, str | Path) else root
    return load_records(path, lambda data: image_folder(data, places), skip_bad, inside)


def load_records(path: Path, place: Callable[[Any], Path], skip_bad: bool, inside: Roots | None) -> Annotations:
    """Read a COCO file, from the cache where it is kept there; `place` finds the folder of its images.

    Raises:
        UserError: as `load_coco`.
    """
    bad_records = BadRecords(path, skip_bad)
    with uncollected(), record_cache(path, partial(_finished, path, place, inside)) as cache:
        if cache and cache.found is not None:
            for _, line in cache.found.notes:
                warn_once(f"{path}: {line}")
            return cache.found
        data = read_records(path)
        if cache:
            cache.digest()  # begins to be computed now, when no other process reads
        table = data.get("annotations") if isinstance(data, dict) else None
        clean = cache is not None and isinstance(table, AnnotationTable) and table.clean
        linked = clean and not all(map(_FILE_NAME, data["images"]))  # the disk says what they are called
        made = from_coco(data, path, place(data), bad_records, inside=inside)
        if cache and clean and not bad_records.lines and not made.bad_outlines:
            names = [record["file_name"] for record in data["images"]]
            if not any_leaves(names):  # where such lead depends on more than the json
                cache.keep(made, names, linked)
    return made


def _finished(
    path: Path, place: Callable[[Any], Path], inside: Roots | None, fields: dict[str, Any], names: list[str]
) -> Annotations | None:
    """Annotations of what is kept of a file: see `RecordCache`."""
    root = place({"images": [{"file_name": name} for name in names[:FIRST]]})
    if fields.pop("linked") and not any((root / name).is_file() for name in names[:FIRST]):
        return None
    if not all((inside or Roots(root)).let_in(names, root)):
        return None
    files = as_on_disk(names, root)
    name_bytes, name_starts = encode_names(files)
    return Annotations(path=path, root=root, name_bytes=name_bytes, name_starts=name_starts, **fields)


def read_records(path: Path) -> Any:
    """Return the content of a COCO file, its annotations as a table where the file is in order.

    Raises:
        UserError: as `read_json`.
    """
    images, annotations = list[dict](), TableBuilder()
    try:
        data = read_in_parts(
            path,
            {"images": lambda part: images.extend(map(_read, part)), "annotations": annotations.add},
            {"annotations": Quick(typed_table, joined_tables)},
        )
    except (OSError, ValueError):
        data = None
    if data is None:  # the strict reader says what is wrong, or takes what is unusual
        return read_json(path, packed)
    made = {"images": lambda: images, "annotations": annotations.table}
    return {key: made[key]() if key in made else value for key, value in data.items()}


def _read(image: dict) -> dict:
    """The record of an image without what is not read."""
    return {
        key: image[key] for key in _IMAGE_KEYS if key in image and not (key == "coco_url" and image.get("file_name"))
    }


def from_coco(
    data: Any,
    path: Path,
    root: Path,
    bad_records: BadRecords,
    where: list[str] | None = None,
    inside: Roots | None = None,
) -> Annotations:
    """Make annotations of a COCO-shaped dictionary; `where` names each annotation in messages (else its id does).

    The images must lie `inside` of folders, by default of `root`.
    """
    images, table, categories = _records(data, path)
    root_used = ((table.values["category_id"] == 0) & ~table.odd["category_id"]).any()
    categories, root_line = without_root(categories, bool(root_used))
    category_ids, names, keypoints, skeleton, skeleton_line = _categories(categories, path)
    allowed = partial((inside or Roots(root)).let_in, root=root)
    image_ids, sizes, files, used = image_columns(images, bad_records, allowed)
    if not files:
        raise EmptyDatasetError(path, bad_records.lines)
    box_line = give_boxes(table, image_ids, sizes)
    notes = _told(path, classes=root_line, skeleton=skeleton_line, boxes=box_line)
    columns = annotation_columns(table, image_ids, category_ids, len(keypoints), bad_records, where)
    table.values.clear()  # a tenth of the memory of all; their copies are in order
    owner, rows = columns.pop("owner"), columns.pop("rows")
    in_order = bool((owner[1:] >= owner[:-1]).all())  # as in most files: nothing has to be copied
    order: Any = slice(None) if in_order else np.argsort(owner, kind="stable")
    outlines, bad_outlines = _outlines(table, rows[order], sizes[owner[order]])
    difficult = table.difficult[rows[order]]
    starts = starts_of(np.bincount(owner, minlength=len(files)))
    grouped: dict[str, Any] = {
        key: None if (column := columns.pop(key)) is None else column[order] for key in [*columns]
    }
    records = [images[row] for row in used.tolist()]
    federation = lvis_federation(records, categories, category_ids, starts, grouped["labels"], bad_records)
    files = [as_local(file) if is_url(file) else file for file in files]  # `inside` let them in
    root, files = rebased(root, as_on_disk(files, root))
    name_bytes, name_starts = encode_names(files)
    return Annotations(
        path=path,
        root=root,
        image_ids=image_ids,
        sizes=sizes,
        starts=starts,
        **grouped,
        outlines=outlines,
        difficult=difficult if difficult.any() else None,
        bad_outlines={int(grouped["ids"][row]): bad_outlines[row] for row in sorted(bad_outlines)},
        category_ids=category_ids,
        names=names,
        name_bytes=name_bytes,
        name_starts=name_starts,
        keypoint_names=keypoints,
        skeleton=skeleton,
        flip_pairs=flip_pairs(keypoints),
        left_out=bad_records.lines,
        notes=notes,
        federation=federation,
        measured_as="coco" if federation is None else "lvis",
    )


def _told(path: Path, **lines: str) -> list[tuple[str, str]]:
    """The kinds and lines of `Annotations.notes`, of those that say something; they are printed once."""
    notes = [(kind, line) for kind, line in lines.items() if line]
    for _, line in notes:
        warn_once(f"{path}: {line}")
    return notes


def _outlines(table: AnnotationTable, rows: np.ndarray, sizes: np.ndarray) -> tuple[Outlines | None, dict[int, str]]:
    """The outlines of the records in `rows`, whose images have these `sizes`, and what is wrong with some, by place."""
    place = {row: i for i, row in enumerate(rows.tolist())} if table.bad_outlines else {}
    bad = {place[row]: line for row, line in table.bad_outlines.items() if row in place}
    outlines = fitting_images(picked(table.outlines, rows) if table.outlines else None, sizes, bad)
    corners = [table.corners.get(row) for row in rows.tolist()] if table.corners else []
    return with_frames(outlines, corners, bad), bad


def flip_pairs(keypoints: list[str]) -> list[list[int]] | None:
    """Return the pairs of indices that swap in a mirror, by `left` and `right` in the names; else None."""
    place = {name: index for index, name in enumerate(keypoints)}
    pairs = []
    for name, index in place.items():
        words = re.split(r"([_\- .])", name)
        if "left" in (word.lower() for word in words):
            partner = "".join({"left": "right", "Left": "Right", "LEFT": "RIGHT"}.get(word, word) for word in words)
            if partner not in place:
                return None
            pairs.append([index, place[partner]])
    rights = sum("right" in re.split(r"[_\- .]", name.lower()) for name in keypoints)
    return pairs if pairs and rights == len(pairs) else None


def _records(data: Any, path: Path) -> tuple[list[dict], AnnotationTable, list[dict]]:
    if not isinstance(data, dict):
        hint = "; is it a file of results?" if isinstance(data, list) else ""
        raise UserError(f"{path}: not COCO annotations: {_SHAPE}, this is a {type(data).__name__}{hint}")
    lists: dict[str, Any] = {}
    for key in ("images", "annotations", "categories"):
        records = lists[key] = data.get(key)
        if key == "annotations" and isinstance(records, AnnotationTable):
            continue
        if not isinstance(records, list):
            raise UserError(f"{path}: not COCO annotations: {_SHAPE}, here {key!r} is not a list or is missing")
        if set(map(type, records)) - {dict}:
            index = next(i for i, record in enumerate(records) if type(record) is not dict)
            raise UserError(f"{path}: {key}[{index}] is not an object but {str(records[index])[:40]!r}")
    table = lists["annotations"]
    table = table if isinstance(table, AnnotationTable) else AnnotationTable.of(table)
    return lists["images"], table, lists["categories"]


def _categories(records: list[dict], path: Path) -> tuple[np.ndarray, list[str], list[str], list[list[int]], str]:
    """Ids ascending, names beside them, the keypoints, of which a file may declare one set, and `skeleton_pairs`."""
    ids, bad = whole([record.get("id") for record in records])
    if bad.any():
        index = int(bad.argmax())
        raise UserError(f"{path}: categories[{index}] has id {records[index].get('id')!r:.60}; give it a whole number")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{path}: category id {values[counts > 1][0]} is declared twice; give each its own id")
    if not records:
        raise UserError(f"{path}: 'categories' is empty; declare the classes there")
    ordered = [records[i] for i in np.argsort(ids).tolist()]
    names = class_names(ordered, path)
    sets = [r for r in ordered if isinstance(r.get("keypoints"), list) and r["keypoints"]]
    if not sets:
        return values, names, [], [], ""
    if any(r["keypoints"] != sets[0]["keypoints"] for r in sets):
        raise UserError(f"{path}: categories declare different keypoints; give them one set, or remove 'keypoints'")
    keypoints = keypoint_names(sets[0], path)
    return values, names, keypoints, *skeleton_pairs(sets[0])
