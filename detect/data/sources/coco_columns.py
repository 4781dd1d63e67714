"""The records of a COCO file as columns: a million boxes in seconds, every check on whole columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detect.data.bad_records import BadRecords
from detect.data.boxes import BEYOND, FARTHEST, beyond
from detect.data.groups import gather, starts_of
from detect.data.roots import LEAVES
from detect.data.sources.coco_table import AnnotationTable
from detect.data.sources.values import numbers, whole
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
    table: AnnotationTable,
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    k: int,
    bad_records: BadRecords,
    where: list[str] | None,
) -> dict[str, Any]:
    """Return the columns of the good annotations, the index `owner` (N,) of each one's image, and the `rows` of all."""

    def say(reason: Reason) -> Say:
        def both(i: int) -> tuple[str, str]:
            if where is not None:
                return where[i], reason(i)
            identity = table.raw(i, "id")
            return f"annotation id {identity!r:.60}" if identity is not None else f"annotations[{i}]", reason(i)

        return both

    ids, missing = table.values["id"].copy(), table.unnumbered
    odd = table.odd["id"]
    alive = bad_records.good(np.ones(len(table), bool), odd, say(lambda i: "has an id that is not a whole number"))
    alive = bad_records.good(alive, _repeated(ids, alive & ~missing), say(lambda i: "has an id that one before it has"))
    ids[missing] = np.arange(missing.sum()) + max(0, int(ids[alive].max(initial=0))) + 1
    alive, owner, labels = _links(table, alive, image_ids, category_ids, bad_records, say)
    alive, boxes, areas, crowd = _shapes(table, alive, where is None, bad_records, say)
    alive, points = _points(table, alive, k, bad_records, say)
    columns = {"owner": owner, "boxes": boxes, "labels": labels, "crowd": crowd, "areas": areas, "ids": ids}
    kept = columns if alive.all() else {key: column[alive] for key, column in columns.items()}
    return {**kept, "keypoints": points, "rows": np.flatnonzero(alive)}


def give_boxes(table: AnnotationTable, image_ids: np.ndarray, sizes: np.ndarray) -> str:
    """Give records with an outline and without a `bbox` the box of what the outline covers; return a line about them.

    Outlines that cover nothing, and RLEs of another size than their image, give none.

    Args:
        table: the records; its boxes are changed.
        image_ids, sizes: (I,) and (I, 2) height and width of the images; 0 where unknown.
    """
    lacking = [row for row, record in table.records.items() if record.get("bbox") in (None, [])]
    rows, first, given = np.array(sorted(lacking), np.int64), 0, 0
    for part in table.outlines if lacking else ():
        own = rows[(rows >= first) & (rows < first + len(part))]
        some, first = part[own - first], first + len(part)
        place, unknown = _find(table.values["image_id"][own], image_ids)
        room = sizes[place] if len(sizes) else np.zeros((len(own), 2), np.int32)
        fits = (some.rle_sizes == room).all(1) | (some.rle_sizes == 0).all(1) | (room == 0).any(1)
        boxes = some.bounds()
        boxes[:, 2:] -= boxes[:, :2]
        good = fits & ~unknown & (boxes[:, 2:] > 0).all(1)
        table.values["bbox"][own[good]], table.odd["bbox"][own[good]] = boxes[good], False
        given += int(good.sum())
    return f"{given} annotations have a segmentation and no bbox: their boxes are those of their masks" if given else ""


def _links(
    table: AnnotationTable,
    alive: np.ndarray,
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    bad_records: BadRecords,
    say: Tell,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows name an image and a category that are there; the index of each (N,)."""
    owner, unknown = _find(table.values["image_id"], image_ids)
    lost = say(lambda i: f"belongs to image {table.raw(i, 'image_id')!r:.60}, which is not among the images")
    alive = bad_records.good(alive, table.odd["image_id"] | unknown, lost)
    labels, unknown = _find(table.values["category_id"], category_ids)
    undeclared = say(lambda i: f"has category {table.raw(i, 'category_id')!r:.60}, which 'categories' does not declare")
    return bad_records.good(alive, table.odd["category_id"] | unknown, undeclared), owner, labels


def _shapes(
    table: AnnotationTable, alive: np.ndarray, flat: bool, bad_records: BadRecords, say: Tell
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which rows have a box, an area and a crowd flag that can be used; boxes (N, 4), areas (N,), crowd (N,).

    A box may be `flat` in COCO files, where COCO's own annotations have some, and pycocotools counts them; other
    formats name the line.
    """
    boxes, raw = table.values["bbox"].copy(), table.raw
    odd = table.odd["bbox"]
    alive = bad_records.good(alive, odd, say(lambda i: f"has bbox {raw(i, 'bbox')!r:.60}, not four finite numbers"))
    far = beyond(boxes)
    alive = bad_records.good(alive, far, say(lambda i: f"has bbox {raw(i, 'bbox')!r:.60}, {BEYOND}"))
    boxes[far] = 0
    least = np.minimum(boxes[:, 2], boxes[:, 3])
    empty = (least < 0) if flat else (least <= 0)
    alive = bad_records.good(
        alive, empty, say(lambda i: f"has a box of width {boxes[i, 2]:g} and height {boxes[i, 3]:g}")
    )
    areas, odd = table.values["area"], table.odd["area"]
    alive = bad_records.good(alive, odd, say(lambda i: f"has area {raw(i, 'area')!r:.60}, not a finite number"))
    if areas.min(initial=0) < 0:
        areas = np.where(areas < 0, boxes[:, 2:3] * boxes[:, 3:], areas)
    odd = table.odd["iscrowd"]
    alive = bad_records.good(alive, odd, say(lambda i: f"has iscrowd {raw(i, 'iscrowd')!r:.60}, not 0 or 1"))
    return alive, boxes, areas[:, 0], table.values["iscrowd"][:, 0] != 0


def _points(
    table: AnnotationTable, alive: np.ndarray, k: int, bad_records: BadRecords, say: Tell
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows have keypoints that can be used, and the keypoints (N, K, 3) of those rows."""
    if not k:
        return alive, None
    points = np.zeros((len(table), 3 * k))
    given = np.asarray(table.point_counts == 3 * k)
    rows, _ = gather(starts_of(table.point_counts.clip(0)), np.flatnonzero(given))
    points[given] = table.points[rows].reshape(-1, 3 * k)
    odd = np.array((~given & (table.point_counts != 0)) | ~np.isfinite(points).all(1), bool)
    points[odd] = 0
    alive = bad_records.good(alive, odd, say(lambda i: f"has keypoints that are not {k} times x, y, visibility"))
    far = np.asarray((np.abs(points) > FARTHEST).any(1))
    alive = bad_records.good(alive, far, say(lambda i: f"has a keypoint {BEYOND}"))
    seen = points[:, 2::3]
    odd = np.array((~np.isin(seen, (0, 1, 2))).any(1))
    alive = bad_records.good(
        alive, odd, say(lambda i: f"has a keypoint of visibility {_odd_one(seen[i]):g}, not 0, 1 or 2")
    )
    return alive, points[alive].reshape(-1, k, 3)


def _odd_one(seen: np.ndarray) -> float:
    return float(seen[~np.isin(seen, (0, 1, 2))][0])


def _repeated(ids: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Which of the living rows have an id that a living row before them has."""
    rows = np.flatnonzero(alive)
    ordered = np.sort(ids[rows])
    if (ordered[1:] != ordered[:-1]).all():  # as nearly always, and sooner known
        return np.zeros(len(ids), bool)
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
