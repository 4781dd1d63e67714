"""Classes: which categories of a COCO-shaped file are one, their names, and the same classes of two datasets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detect.errors import UserError, unknown
from detect.utils.names import find, key, require_names

if TYPE_CHECKING:
    from detect.data.annotations import Annotations


def without_root(records: list[dict], used: bool) -> tuple[list[dict], str]:
    """Return the categories without the root that some exporters (Roboflow) add as id 0, and a line that says so.

    A root has no annotation (id 0 is not `used`), and is called as another category is, or as the supercategory of all
    others.
    """
    for i, record in enumerate(records):
        others = records[:i] + records[i + 1 :]
        if record.get("id") == 0 and others and _is_root(record, others):
            if used:
                break
            line = f"category id 0 ({record['name']!r}) has no annotation and is the root of the others: not a class"
            return others, line
    return records, ""


def _is_root(record: dict, others: list[dict]) -> bool:
    name = record.get("name")
    if not isinstance(name, str):
        return False
    alike = any(isinstance(other.get("name"), str) and key(other["name"]) == key(name) for other in others)
    return alike or all(other.get("supercategory") == name for other in others)


def class_names(records: list[dict], path: Path) -> list[str]:
    """Return the name of each category, its id where it has none. Raises UserError as `require_names`."""
    ids = [record["id"] for record in records]
    return require_names([record.get("name", str(record["id"])) for record in records], ids, path)


def keypoint_names(record: dict, path: Path) -> list[str]:
    """Return the names of the keypoints that a category declares. Raises UserError as `require_names`."""
    names = record["keypoints"]
    return require_names(names, range(1, len(names) + 1), path, "keypoint")


def skeleton_pairs(record: dict) -> tuple[list[list[int]], str]:
    """Return the skeleton of a category as pairs of indices from 0; for a bad one none, and a line that says why.

    COCO counts keypoints from 1.
    """
    count = len(record["keypoints"])
    try:
        pairs = [[int(a) - 1, int(b) - 1] for a, b in record.get("skeleton") or []]
    except (TypeError, ValueError, OverflowError):
        pairs = [[-1, -1]]
    if any(not 0 <= end < count for pair in pairs for end in pair):
        return [], f"'skeleton' must be pairs of keypoint numbers, 1 to {count}, so none is drawn"
    return pairs, ""


def with_classes_of(annotations: Annotations, other: Annotations) -> Annotations:
    """Return annotations with the classes of another dataset, matched by name, whatever their order.

    Raises UserError for an object of a class that the other dataset does not have.
    """
    if annotations.names == other.names:
        return annotations
    ids, other_ids = annotations.category_ids.tolist(), other.category_ids.tolist()
    place = np.array(find(annotations.names, ids, other.names, other_ids, other.path))
    if (lost := place[annotations.labels] < 0).any():
        counts = np.bincount(annotations.labels[lost])
        first, count = annotations.names[int((counts > 0).argmax())], int(counts[counts > 0][0])
        remedy = f"declare it in {other.path}, rename it, or remove its {count} objects"
        raise UserError(f"{annotations.path}: {unknown('class', first, other.names)}; {remedy}")
    return replace(
        annotations,
        labels=place[annotations.labels],
        names=list(other.names),
        category_ids=other.category_ids,
        federation=annotations.federation and annotations.federation.relabelled(place, len(other.names)),
    )


def with_same_classes(sets: Mapping[str, Annotations]) -> dict[str, Annotations]:
    """Return the splits of a dataset with the same classes and category ids: those of the first, then what it lacks.

    Classes are matched by name. Those that only others have get the next free ids.

    Raises:
        UserError: two classes of the first are equal, and one of another split may be either.
    """
    first, *rest = sets.values()
    names, ids = list(first.names), first.category_ids.tolist()
    for one in rest:
        own = one.category_ids.tolist()
        lacking = [i for i, place in enumerate(find(one.names, own, names, ids, first.path)) if place < 0]
        names += [one.names[i] for i in lacking]
        ids += range(max([0, *ids]) + 1, max([0, *ids]) + 1 + len(lacking))
    if all(one.names == names and one.category_ids.tolist() == ids for one in sets.values()):
        return dict(sets)
    federation = first.federation and first.federation.relabelled(np.arange(len(first.names)), len(names))
    whole = replace(first, names=names, category_ids=np.array(ids, np.int64), federation=federation)
    made = (replace(with_classes_of(one, whole), category_ids=whole.category_ids) for one in rest)
    return dict(zip(sets, (whole, *made), strict=True))
