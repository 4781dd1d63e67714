"""The records of a COCO file as columns: a million boxes in seconds, every check on whole columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detect.data.bad_records import BadRecords
from detect.data.boxes import BEYOND, FARTHEST, beyond
from detect.data.roots import LEAVES
from detect.utils.names import may_be_a_file

Reason = Callable[[int], str]  # row -> what is wrong with it
Say = Callable[[int], tuple[str, str]]  # row -> its name, and what is wrong with it
Tell = Callable[[Reason], Say]


def image_columns(
    records: list[dict], bad_records: BadRecords, allowed: Callable[[list], list[bool]]
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Return ids (I,), sizes (I, 2), file names and rows (I,) of the good images; `allowed` names may be used."""
    raw = [record.get("id") for record in records]
    files = [record.get("file_name") for record in records]
    ids, odd = whole(raw)

    def say(reason: Reason) -> Say:
        return lambda i: (f"image id {raw[i]!r:.60} ({files[i]!r:.300})", reason(i))

    alive = bad_records.good(np.ones(len(records), bool), odd, say(lambda i: "has an id that is not a whole number"))
    alive = bad_records.good(alive, _repeated(ids, alive), say(lambda i: "has an id that an image before it has"))
    nameless = np.array([type(name) is not str or not name for name in files], dtype=bool)
    alive = bad_records.good(alive, nameless, say(lambda i: "has no 'file_name', nor a 'coco_url'"))
    impossible = np.array([type(name) is str and not may_be_a_file(name) for name in files], dtype=bool)
    alive = bad_records.good(alive, impossible, say(lambda i: "has a file name that no file can have"))
    inside = np.array(allowed([name if fine else None for name, fine in zip(files, alive, strict=True)]), dtype=bool)
    alive = bad_records.good(alive, ~inside, say(lambda i: f"has a file name that {LEAVES}"))
    sizes, bad = numbers([[record.get("height") or 0, record.get("width") or 0] for record in records], 2)
    bad |= ((sizes < 0) | (sizes != np.floor(sizes)) | (sizes > 1e6)).any(1)
    wrong = say(lambda i: f"has width {records[i].get('width')!r:.60} and height {records[i].get('height')!r:.60}")
    alive = bad_records.good(alive, bad, wrong)
    rows = np.flatnonzero(alive)
    return ids[alive], sizes[alive].astype(np.int32), [str(files[i]) for i in rows.tolist()], rows


def annotation_columns(
    records: list[dict],
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    k: int,
    bad_records: BadRecords,
    where: list[str] | None,
) -> dict[str, Any]:
    """Return the columns of the good annotations, the index `owner` (N,) of each one's image, and the `rows` of all."""
    raw = [record.get("id") for record in records]

    def say(reason: Reason) -> Say:
        def both(i: int) -> tuple[str, str]:
            if where is not None:
                return where[i], reason(i)
            return f"annotation id {raw[i]!r:.60}" if raw[i] is not None else f"annotations[{i}]", reason(i)

        return both

    missing = np.array([value is None for value in raw], dtype=bool)
    ids, odd = whole([0 if value is None else value for value in raw])
    alive = bad_records.good(np.ones(len(records), bool), odd, say(lambda i: "has an id that is not a whole number"))
    alive = bad_records.good(alive, _repeated(ids, alive & ~missing), say(lambda i: "has an id that one before it has"))
    ids[missing] = np.arange(missing.sum()) + max(0, int(ids[alive].max(initial=0))) + 1
    alive, owner, labels = _links(records, alive, image_ids, category_ids, bad_records, say)
    alive, boxes, areas, crowd = _shapes(records, alive, where is None, bad_records, say)
    alive, points = _points(records, alive, k, bad_records, say)
    columns = {"owner": owner, "boxes": boxes, "labels": labels, "crowd": crowd, "areas": areas, "ids": ids}
    kept = {key: column[alive] for key, column in columns.items()}
    return {**kept, "keypoints": points, "rows": np.flatnonzero(alive)}


def _links(
    records: list[dict],
    alive: np.ndarray,
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    bad_records: BadRecords,
    say: Tell,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows name an image and a category that are there; the index of each (N,)."""
    raw = [record.get("image_id") for record in records]
    images, odd = whole(raw)
    owner, unknown = _find(images, image_ids)
    alive = bad_records.good(
        alive, odd | unknown, say(lambda i: f"belongs to image {raw[i]!r:.60}, which is not among the images")
    )
    classes = [record.get("category_id") for record in records]
    categories, odd = whole(classes)
    labels, unknown = _find(categories, category_ids)
    undeclared = say(lambda i: f"has category {classes[i]!r:.60}, which 'categories' does not declare")
    return bad_records.good(alive, odd | unknown, undeclared), owner, labels


def _shapes(
    records: list[dict], alive: np.ndarray, flat: bool, bad_records: BadRecords, say: Tell
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which rows have a box, an area and a crowd flag that can be used; boxes (N, 4), areas (N,), crowd (N,).

    A box may be `flat` in COCO files, where COCO's own annotations have some, and pycocotools counts them; other
    formats name the line.
    """
    raw = [record.get("bbox") for record in records]
    boxes, odd = numbers(raw, 4)
    alive = bad_records.good(alive, odd, say(lambda i: f"has bbox {raw[i]!r:.60}, not four finite numbers"))
    far = beyond(boxes)
    alive = bad_records.good(alive, far, say(lambda i: f"has bbox {raw[i]!r:.60}, {BEYOND}"))
    boxes[far] = 0
    least = boxes[:, 2:].min(axis=1, initial=np.inf)
    empty = (least < 0) if flat else (least <= 0)
    alive = bad_records.good(
        alive, empty, say(lambda i: f"has a box of width {boxes[i, 2]:g} and height {boxes[i, 3]:g}")
    )
    areas, odd = numbers([-1 if (area := record.get("area")) is None else area for record in records], 1)
    alive = bad_records.good(alive, odd, say(lambda i: f"has area {records[i]['area']!r:.60}, not a finite number"))
    areas = np.where(areas < 0, boxes[:, 2:3] * boxes[:, 3:], areas)
    crowd, odd = numbers([record.get("iscrowd") or 0 for record in records], 1)
    alive = bad_records.good(alive, odd, say(lambda i: f"has iscrowd {records[i]['iscrowd']!r:.60}, not 0 or 1"))
    return alive, boxes, areas[:, 0], crowd[:, 0] != 0


def _points(
    records: list[dict], alive: np.ndarray, k: int, bad_records: BadRecords, say: Tell
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows have keypoints that can be used, and the keypoints (N, K, 3) of those rows."""
    if not k:
        return alive, None
    blank = [0.0] * (3 * k)
    points, odd = numbers([record.get("keypoints") or blank for record in records], 3 * k)
    alive = bad_records.good(alive, odd, say(lambda i: f"has keypoints that are not {k} times x, y, visibility"))
    far = (np.abs(points) > FARTHEST).any(1)
    alive = bad_records.good(alive, far, say(lambda i: f"has a keypoint {BEYOND}"))
    seen = points[:, 2::3]
    odd = np.array((~np.isin(seen, (0, 1, 2))).any(1))
    alive = bad_records.good(
        alive, odd, say(lambda i: f"has a keypoint of visibility {_odd_one(seen[i]):g}, not 0, 1 or 2")
    )
    return alive, points[alive].reshape(-1, k, 3)


def _odd_one(seen: np.ndarray) -> float:
    return float(seen[~np.isin(seen, (0, 1, 2))][0])


def whole(values: list) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) int64 of whole numbers, and which of the values are not (they become 0)."""
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
    """Return (N, width) float64 of finite numbers, and which rows are not (they become 0)."""
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
