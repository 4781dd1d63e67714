"""Federated annotations: each image was checked for some classes alone, and nothing is known about the others.

LVIS (Gupta et al. 2019, arXiv 1908.03195) and Open Images (Kuznetsova et al. 2020, arXiv 1811.00982) are annotated so.

Axes: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from detect.data.bad_records import BadRecords
from detect.data.groups import gather, members, starts_of

T = TypeVar("T")
LVIS_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")  # of the record of an image
FREQUENCIES = "rcf"  # LVIS: rare, common and frequent classes


@dataclass(frozen=True, eq=False)
class Federation:
    """The classes that each image of a dataset was checked for.

    Attributes:
        checked: labels end to end: the classes that an image was checked for, whether it has objects of them or not;
            those of image i in checked[checked_starts[i]:checked_starts[i + 1]].
        checked_starts: (I + 1,) int64.
        partial: labels likewise: classes of which an image has objects that are not annotated.
        partial_starts: (I + 1,) int64.
        frequency: (C,) "r", "c" or "f" for rare, common and frequent classes, "" where unknown; None without any.
        parents: for each class all classes that it is a kind of, by label; None where classes have no hierarchy.
    """

    checked: np.ndarray
    checked_starts: np.ndarray
    partial: np.ndarray
    partial_starts: np.ndarray
    frequency: tuple[str, ...] | None = None
    parents: tuple[tuple[int, ...], ...] | None = None

    @staticmethod
    def of(checked: Sequence[set[int]], partial: Sequence[set[int]], **fields: object) -> Federation:
        """Make it of a set of labels for each image."""
        columns = []
        for sets in (checked, partial):
            columns.append(np.array([label for one in sets for label in sorted(one)], dtype=np.int64))
            columns.append(starts_of([len(one) for one in sets]))
        return Federation(*columns, **fields)  # type: ignore[arg-type]

    def select(self, index: np.ndarray) -> Federation:
        """Return that of the images at an index (M,)."""
        rows, starts = gather(self.checked_starts, index)
        others, other_starts = gather(self.partial_starts, index)
        return replace(
            self,
            checked=self.checked[rows],
            checked_starts=starts,
            partial=self.partial[others],
            partial_starts=other_starts,
        )

    def relabelled(self, place: np.ndarray, count: int) -> Federation:
        """Return that of `count` other classes: `place` (C,) is the label that each class has there, -1 for none."""
        columns = []
        for labels, starts in ((self.checked, self.checked_starts), (self.partial, self.partial_starts)):
            known = place[labels] >= 0
            columns += [place[labels][known], np.concatenate([[0], np.cumsum(known)])[starts]]
        frequency, parents = self.frequency, self.parents
        if frequency is not None:
            frequency = tuple(_moved(frequency, place, count, ""))
        if parents is not None:
            moved = [tuple(int(place[p]) for p in some if place[p] >= 0) for some in parents]
            parents = tuple(_moved(moved, place, count, ()))
        return replace(
            self,
            checked=columns[0],
            checked_starts=columns[1],
            partial=columns[2],
            partial_starts=columns[3],
            frequency=frequency,
            parents=parents,
        )

    def judged(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for rows of images and labels (N,) whether a false detection counts, and whether any does: (N,) bool.

        None counts of a class that the image was not checked for; of one with objects that are not annotated, those
        count that match an object.
        """
        count = int(max(labels.max(initial=0), self.checked.max(initial=0), self.partial.max(initial=0))) + 1
        keys = images * count + labels
        checked = np.isin(keys, members(self.checked_starts) * count + self.checked)
        return checked & ~np.isin(keys, members(self.partial_starts) * count + self.partial), checked

    def checked_in(self, index: int) -> np.ndarray:
        """Return the labels that image `index` was checked for."""
        return self.checked[self.checked_starts[index] : self.checked_starts[index + 1]]

    def partial_in(self, index: int) -> np.ndarray:
        """Return the labels of which image `index` has objects that are not annotated."""
        return self.partial[self.partial_starts[index] : self.partial_starts[index + 1]]

    def describe(
        self, coco: dict[str, list[dict]], category_ids: np.ndarray, starts: np.ndarray, labels: np.ndarray
    ) -> None:
        """Add what LVIS's form has of it to a COCO dictionary, whose objects have these labels (N,)."""
        for index, record in enumerate(coco["images"]):
            absent = np.setdiff1d(self.checked_in(index), labels[starts[index] : starts[index + 1]])
            record["neg_category_ids"] = category_ids[absent].tolist()
            record["not_exhaustive_category_ids"] = category_ids[self.partial_in(index)].tolist()
        for record, frequency in zip(coco["categories"], self.frequency or (), strict=False):
            record |= {"frequency": frequency} if frequency else {}

    def complete(self, index: int, classes: int) -> np.ndarray:
        """Return (C,) bool, the classes of which every object in image `index` is annotated."""
        known = np.zeros(classes, bool)
        known[self.checked_in(index)] = True
        known[self.partial_in(index)] = False
        return known


def _moved(values: Sequence[T], place: np.ndarray, count: int, empty: T) -> list[T]:
    found = [empty] * count
    for value, label in zip(values, place.tolist(), strict=True):
        if label >= 0:
            found[label] = value
    return found


def lvis_federation(
    images: Sequence[dict],
    categories: Sequence[dict],
    category_ids: np.ndarray,
    starts: np.ndarray,
    labels: np.ndarray,
    bad_records: BadRecords,
) -> Federation | None:
    """Return what the records of a COCO-shaped file in LVIS's form say, None where no image says anything.

    Args:
        images: the records of the images that are used, with `neg_category_ids` and `not_exhaustive_category_ids`.
        categories: the records of the classes, with `frequency`.
        category_ids: (C,) ascending.
        starts: (I + 1,) where the objects of each image start.
        labels: (N,) the objects' labels.
        bad_records: takes the ids that no class has.
    """
    if not any(key in one for one in images for key in LVIS_KEYS):
        return None
    label_of = {category: label for label, category in enumerate(category_ids.tolist())}
    checked: list[set[int]] = []
    partial: list[set[int]] = []
    for row, record in enumerate(images):
        absent, missing = (_labels(record, key, label_of, bad_records) for key in LVIS_KEYS)
        checked.append(absent | set(labels[starts[row] : starts[row + 1]].tolist()))
        partial.append(missing)
    by_id = {record["id"]: str(record.get("frequency", "")) for record in categories}
    frequency = tuple(value if (value := by_id[i]) in FREQUENCIES else "" for i in category_ids.tolist())
    return Federation.of(checked, partial, frequency=frequency if any(frequency) else None)


def _labels(record: dict, key: str, label_of: dict[int, int], bad_records: BadRecords) -> set[int]:
    ids = record.get(key) or []
    if not isinstance(ids, list):
        bad_records.reject(f"image id {record.get('id')!r:.60}", f"has a {key} that is not a list")
        return set()
    found: set[int] = set()
    for one in ids:
        label = label_of.get(one) if type(one) is int else None
        if label is None:
            what = f"has {one!r:.60} in {key}, which 'categories' does not declare"
            bad_records.reject(f"image id {record.get('id')!r:.60}", what)
        else:
            found.add(label)
    return found
