"""Reading COCO json into the store: a million boxes in seconds, every check on whole columns.

Left to the reader of the file: `segmentation` (not kept), `info`, `licenses` and keys of one's own are passed over.
Optional are `iscrowd`, `area`, annotation `id`, `width`, `height`, `file_name`'s folder, category `name`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations, encode_names
from detect.data.boxes import BEYOND, FARTHEST, beyond
from detect.data.categories import class_names, keypoint_names, skeleton_pairs, without_root
from detect.data.roots import LEAVES, Roots, rebased
from detect.data.sources.image_names import as_on_disk, image_folder
from detect.data.validate import NothingUsable, Sieve
from detect.errors import UserError
from detect.utils.json_files import read_json, uncollected
from detect.utils.names import may_be_a_file, warn_once

Reason = Callable[[int], str]  # row -> what is wrong with it
Say = Callable[[int], tuple[str, str]]  # row -> its name, and what is wrong with it
Tell = Callable[[Reason], Say]

_SHAPE = "COCO-format json is an object with the lists 'images', 'annotations' and 'categories'"


def load_coco(
    path: str | Path,
    root: str | Path | Sequence[Path] | None = None,
    skip_bad: bool = False,
    inside: Roots | None = None,
) -> Annotations:
    """The store of a COCO file; image names are relative to `root`, by default the folder of the file.

    Of several roots it is the first that holds one of the first images (see `image_folder`).
    Raises UserError naming file, record and remedy for: broken json, json that is not COCO-shaped, a duplicate id, an
    undeclared category, an annotation of an unknown image, a box with NaN, infinite or negative size, a file name that
    leaves the image folder (absolute, with `..`, or by a link that leads out of the folders `inside`, by default that
    one), no image at all. With `skip_bad` a bad image or annotation is left out and listed in `left_out`; of duplicates
    the first stays. Images are not looked at.
    """
    path = Path(path)
    places = [Path(root or path.parent)] if root is None or isinstance(root, str | Path) else root
    with uncollected():
        data = read_json(path)
        return from_coco(data, path, image_folder(data, places), Sieve(path, skip_bad), inside=inside)


def from_coco(
    data: Any, path: Path, root: Path, sieve: Sieve, where: list[str] | None = None, inside: Roots | None = None
) -> Annotations:
    """The store of a COCO-shaped dictionary; `where` names each annotation in messages (else its id does).

    The images must lie `inside` of folders, by default of `root`.
    """
    images, annotations, categories = _records(data, path)
    categories, root_line = without_root(categories, annotations)
    category_ids, names, keypoints, skeleton, skeleton_line = _categories(categories, path)
    notes = [(kind, line) for kind, line in (("classes", root_line), ("skeleton", skeleton_line)) if line]
    for _, line in notes:
        warn_once(f"{path}: {line}")
    image_ids, sizes, files = _images(images, sieve, partial((inside or Roots(root)).let_in, root=root))
    if not files:
        raise NothingUsable(path, sieve.lines)
    columns = _annotations(annotations, image_ids, category_ids, len(keypoints), sieve, where)
    owner = columns.pop("owner")
    order = np.argsort(owner, kind="stable")
    starts = np.zeros(len(files) + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner, minlength=len(files)), out=starts[1:])
    grouped: dict[str, Any] = {key: None if column is None else column[order] for key, column in columns.items()}
    root, files = rebased(root, as_on_disk(files, root))
    name_bytes, name_starts = encode_names(files)
    return Annotations(
        path=path,
        root=root,
        image_ids=image_ids,
        sizes=sizes,
        starts=starts,
        **grouped,
        category_ids=category_ids,
        names=names,
        name_bytes=name_bytes,
        name_starts=name_starts,
        keypoint_names=keypoints,
        skeleton=skeleton,
        flip_pairs=flip_pairs(keypoints),
        left_out=sieve.lines,
        notes=notes,
    )


def flip_pairs(keypoints: list[str]) -> list[list[int]] | None:
    """Index pairs that change places in a mirror, by `left` and `right` in the names; None where names do not tell."""
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


def _records(data: Any, path: Path) -> list[list[dict]]:
    if not isinstance(data, dict):
        hint = "; is it a file of results?" if isinstance(data, list) else ""
        raise UserError(f"{path}: not COCO annotations: {_SHAPE}, this is a {type(data).__name__}{hint}")
    lists = []
    for key in ("images", "annotations", "categories"):
        records = data.get(key)
        if not isinstance(records, list):
            raise UserError(f"{path}: not COCO annotations: {_SHAPE}, here {key!r} is not a list or is missing")
        if set(map(type, records)) - {dict}:
            index = next(i for i, record in enumerate(records) if type(record) is not dict)
            raise UserError(f"{path}: {key}[{index}] is not an object but {str(records[index])[:40]!r}")
        lists.append(records)
    return lists


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


def _images(
    records: list[dict], sieve: Sieve, allowed: Callable[[list], list[bool]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Ids (I,), sizes (I, 2) and file names of the images that may be used; `allowed` says which names are."""
    raw = [record.get("id") for record in records]
    files = [record.get("file_name") for record in records]
    ids, odd = whole(raw)

    def say(reason: Reason) -> Say:
        return lambda i: (f"image id {raw[i]!r:.60} ({files[i]!r:.300})", reason(i))

    alive = sieve.keep(np.ones(len(records), bool), odd, say(lambda i: "has an id that is not a whole number"))
    alive = sieve.keep(alive, _repeated(ids, alive), say(lambda i: "has an id that an image before it has"))
    nameless = np.array([type(name) is not str or not name for name in files], dtype=bool)
    alive = sieve.keep(alive, nameless, say(lambda i: "has no 'file_name', nor a 'coco_url'"))
    impossible = np.array([type(name) is str and not may_be_a_file(name) for name in files], dtype=bool)
    alive = sieve.keep(alive, impossible, say(lambda i: "has a file name that no file can have"))
    inside = np.array(allowed([name if fine else None for name, fine in zip(files, alive, strict=True)]), dtype=bool)
    alive = sieve.keep(alive, ~inside, say(lambda i: f"has a file name that {LEAVES}"))
    sizes, bad = numbers([[record.get("height") or 0, record.get("width") or 0] for record in records], 2)
    bad |= ((sizes < 0) | (sizes != np.floor(sizes)) | (sizes > 1e6)).any(1)
    wrong = say(lambda i: f"has width {records[i].get('width')!r:.60} and height {records[i].get('height')!r:.60}")
    alive = sieve.keep(alive, bad, wrong)
    return ids[alive], sizes[alive].astype(np.int32), [str(files[i]) for i in np.flatnonzero(alive).tolist()]


def _annotations(
    records: list[dict], image_ids: np.ndarray, category_ids: np.ndarray, k: int, sieve: Sieve, where: list[str] | None
) -> dict[str, Any]:
    """The columns of the annotations that may be used, and `owner` (N,), the index of each one's image."""
    raw = [record.get("id") for record in records]

    def say(reason: Reason) -> Say:
        def both(i: int) -> tuple[str, str]:
            if where is not None:
                return where[i], reason(i)
            return f"annotation id {raw[i]!r:.60}" if raw[i] is not None else f"annotations[{i}]", reason(i)

        return both

    missing = np.array([value is None for value in raw], dtype=bool)
    ids, odd = whole([0 if value is None else value for value in raw])
    alive = sieve.keep(np.ones(len(records), bool), odd, say(lambda i: "has an id that is not a whole number"))
    alive = sieve.keep(alive, _repeated(ids, alive & ~missing), say(lambda i: "has an id that one before it has"))
    ids[missing] = np.arange(missing.sum()) + max(0, int(ids[alive].max(initial=0))) + 1
    alive, owner, labels = _links(records, alive, image_ids, category_ids, sieve, say)
    alive, boxes, areas, crowd = _shapes(records, alive, where is None, sieve, say)
    alive, points = _points(records, alive, k, sieve, say)
    columns = {"owner": owner, "boxes": boxes, "labels": labels, "crowd": crowd, "areas": areas, "ids": ids}
    return {**{key: column[alive] for key, column in columns.items()}, "keypoints": points}


def _links(
    records: list[dict], alive: np.ndarray, image_ids: np.ndarray, category_ids: np.ndarray, sieve: Sieve, say: Tell
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows name an image and a category that are there; the index of each (N,)."""
    raw = [record.get("image_id") for record in records]
    images, odd = whole(raw)
    owner, unknown = _find(images, image_ids)
    alive = sieve.keep(
        alive, odd | unknown, say(lambda i: f"belongs to image {raw[i]!r:.60}, which is not among the images")
    )
    classes = [record.get("category_id") for record in records]
    categories, odd = whole(classes)
    labels, unknown = _find(categories, category_ids)
    undeclared = say(lambda i: f"has category {classes[i]!r:.60}, which 'categories' does not declare")
    return sieve.keep(alive, odd | unknown, undeclared), owner, labels


def _shapes(
    records: list[dict], alive: np.ndarray, flat: bool, sieve: Sieve, say: Tell
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which rows have a box, an area and a crowd flag that can be used; boxes (N, 4), areas (N,), crowd (N,).

    A box may be `flat` in COCO files, whose own truth has some, which pycocotools counts; other formats name the line.
    """
    raw = [record.get("bbox") for record in records]
    boxes, odd = numbers(raw, 4)
    alive = sieve.keep(alive, odd, say(lambda i: f"has bbox {raw[i]!r:.60}, not four finite numbers"))
    far = beyond(boxes)
    alive = sieve.keep(alive, far, say(lambda i: f"has bbox {raw[i]!r:.60}, {BEYOND}"))
    boxes[far] = 0
    least = boxes[:, 2:].min(axis=1, initial=np.inf)
    empty = (least < 0) if flat else (least <= 0)
    alive = sieve.keep(alive, empty, say(lambda i: f"has a box of width {boxes[i, 2]:g} and height {boxes[i, 3]:g}"))
    areas, odd = numbers([-1 if (area := record.get("area")) is None else area for record in records], 1)
    alive = sieve.keep(alive, odd, say(lambda i: f"has area {records[i]['area']!r:.60}, not a finite number"))
    areas = np.where(areas < 0, boxes[:, 2:3] * boxes[:, 3:], areas)
    crowd, odd = numbers([record.get("iscrowd") or 0 for record in records], 1)
    alive = sieve.keep(alive, odd, say(lambda i: f"has iscrowd {records[i]['iscrowd']!r:.60}, not 0 or 1"))
    return alive, boxes, areas[:, 0], crowd[:, 0] != 0


def _points(
    records: list[dict], alive: np.ndarray, k: int, sieve: Sieve, say: Tell
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows have keypoints that can be used, and the keypoints (N, K, 3) of those rows."""
    if not k:
        return alive, None
    blank = [0.0] * (3 * k)
    points, odd = numbers([record.get("keypoints") or blank for record in records], 3 * k)
    alive = sieve.keep(alive, odd, say(lambda i: f"has keypoints that are not {k} times x, y, visibility"))
    far = (np.abs(points) > FARTHEST).any(1)
    alive = sieve.keep(alive, far, say(lambda i: f"has a keypoint {BEYOND}"))
    seen = points[:, 2::3]
    odd = np.array((~np.isin(seen, (0, 1, 2))).any(1))
    alive = sieve.keep(alive, odd, say(lambda i: f"has a keypoint of visibility {_odd_one(seen[i]):g}, not 0, 1 or 2"))
    return alive, points[alive].reshape(-1, k, 3)


def _odd_one(seen: np.ndarray) -> float:
    return float(seen[~np.isin(seen, (0, 1, 2))][0])


def whole(values: list) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 of whole numbers, and which of the values are none (they become 0)."""
    if not values:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    if not set(map(type, values)) - {int}:
        try:
            return np.array(values, dtype=np.int64), np.zeros(len(values), bool)
        except OverflowError:
            pass
    good = [
        (type(v) is int and abs(v) < 2**63) or (type(v) is float and v.is_integer() and abs(v) < 2**53) for v in values
    ]
    kept = [int(value) if fine else 0 for value, fine in zip(values, good, strict=True)]
    return np.array(kept, np.int64), ~np.array(good, bool)


def numbers(values: list, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, width) float64 of finite numbers, and which rows are not that (they become 0)."""
    try:
        array = np.array(values, dtype=np.float64).reshape(len(values), width) if values else np.zeros((0, width))
    except (TypeError, ValueError, OverflowError):
        array = np.full((len(values), width), np.nan)
        for row, value in enumerate(values):
            try:
                array[row] = np.array(value, dtype=np.float64).reshape(width)
            except (TypeError, ValueError, OverflowError):
                continue  # stays NaN, and so is reported
    bad = np.asarray(~np.isfinite(array).all(1))
    array[bad] = 0
    return array, bad


def _repeated(ids: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Which of the living rows have an id that a living row before them has."""
    rows = np.flatnonzero(alive)
    _, first = np.unique(ids[rows], return_index=True)
    repeated = alive.copy()
    repeated[rows[first]] = False
    return repeated


def _find(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of each value in `known` (distinct, in any order), and which values are not there (index 0)."""
    if not len(known):
        return np.zeros(len(values), np.int64), np.ones(len(values), bool)
    order = np.argsort(known)
    place = order[np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)]
    return place, known[place] != values
