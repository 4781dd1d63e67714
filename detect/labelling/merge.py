"""Joins corrected labels with the dataset that they were made from, as a new dataset.

An image that was corrected gets the objects of its correction. Those that did not change keep their records, ids
included; those that did keep their ids. Images without a correction stay as they are, with their marks for review.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detect.data.annotations import Annotations, with_known_sizes
from detect.data.bad_records import BadRecords
from detect.data.categories import with_same_classes
from detect.data.images import read_header
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco
from detect.errors import UserError
from detect.labelling.changes import Changes, ImageChanges
from detect.labelling.corrected import ImageIndex
from detect.labelling.labels import REVIEW, Labels
from detect.labelling.object_matching import Objects, has_moved, pairs, same
from detect.utils.json_files import read_json
from detect.utils.names import key

Conflicts = Literal["refuse", "first", "last"]
MARKS = ("score", REVIEW, "track_id", "note")


@dataclass
class Image:
    """One image of the merged dataset: its split, its COCO record, its objects and their classes."""

    split: str
    record: dict[str, Any]
    objects: list[dict[str, Any]]
    file: Path
    correction: tuple[Path, list[dict[str, Any]]] | None = None
    is_new: bool = False


@dataclass
class Merge:
    """A dataset that takes corrections.

    Args:
        sets: the dataset by split.
        split: where new images go.
        new_classes: take classes that the dataset lacks.
        conflicts: what to do with an image that was corrected twice, differently.
    """

    sets: Mapping[str, Annotations]
    split: str = "train"
    new_classes: bool = False
    conflicts: Conflicts = "refuse"
    problems: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sets = with_same_classes({split: with_known_sizes(data) for split, data in self.sets.items()})
        self.first = next(iter(self.sets.values()))
        self.categories = [dict(one) for one in self.first.to_coco()["categories"]]
        self.images = [image for split, data in self.sets.items() for image in _images(split, data)]
        self.index = ImageIndex([(image.file, image.record["file_name"]) for image in self.images])
        self.has_outlines = any(data.outlines is not None for data in self.sets.values())
        self.ids_kept: dict[Path, bool] = {}

    def take(self, path: Path, corrected: Annotations) -> None:
        """Take the corrections of one file or folder.

        Raises:
            UserError: it has classes that the dataset lacks.
        """
        numbers, content = self._numbers(path, corrected), corrected.to_coco()
        of_image: dict[int, list[dict[str, Any]]] = {}
        for record in content["annotations"]:
            mine = record | {"category_id": numbers[record["category_id"]]}
            of_image.setdefault(record["image_id"], []).append(self._fitted(mine, corrected))
        for i, record in enumerate(content["images"]):
            try:
                image = self._image(record, corrected.image_path(i))
            except UserError as error:
                self.problems.append(f"{path}: {error}")
                continue
            self._correct(image, path, of_image.get(record["id"], []), record)

    def _numbers(self, path: Path, corrected: Annotations) -> dict[int, int]:
        """The category id here of each category id of the corrections."""
        known = {key(one["name"]): one["id"] for one in self.categories}
        counts = np.bincount(corrected.labels, minlength=len(corrected.names)).tolist()
        pairs_ = list(zip(corrected.names, corrected.category_ids.tolist(), counts, strict=True))
        lacking = [(name, count) for name, _, count in pairs_ if count and key(name) not in known]
        if lacking and not self.new_classes:
            each = ", ".join(f"{name!r} ({count} objects)" for name, count in lacking)
            raise UserError(f"{path}: has classes that the dataset lacks: {each}; rename them, or give --new-classes")
        for name, _ in lacking:
            known[key(name)] = max([0, *known.values()]) + 1
            points = {k: v for k, v in self.categories[0].items() if k not in ("id", "name")}
            self.categories.append({"id": known[key(name)], "name": name} | points)
        return {number: known[key(name)] for name, number, count in pairs_ if count}

    def _fitted(self, record: dict[str, Any], corrected: Annotations) -> dict[str, Any]:
        """A corrected object with what objects of this dataset have: outlines, and keypoints in its order."""
        if not self.has_outlines:
            record = {k: v for k, v in record.items() if k not in ("segmentation", "corners", "area")}
        names = self.first.keypoint_names
        if not names or not record.get("keypoints"):
            return {k: v for k, v in record.items() if k not in ("keypoints", "num_keypoints")}
        given = dict(zip(map(key, corrected.keypoint_names), np.reshape(record["keypoints"], (-1, 3)), strict=True))
        points = [np.asarray(given.get(key(name), np.zeros(3))) for name in names]
        return record | {"keypoints": np.concatenate(points).tolist()}

    def _image(self, record: dict[str, Any], file: Path) -> Image:
        """The image that a record of corrections means; a new one where the dataset lacks it."""
        place = self.index.find(record["file_name"], file)
        if place is not None:
            return self.images[place]
        other = next((image for image in self.images if image.is_new and image.file == file), None)
        if other:
            return other
        if not file.is_file():
            raise UserError(f"{record['file_name']} is no image of the dataset, and there is no such file")
        number = max(image.record["id"] for image in self.images) + 1
        split = self.split if self.split in self.sets else next(iter(self.sets))
        name = Path(os.path.relpath(file.absolute(), Path(self.sets[split].root).absolute())).as_posix()
        height, width = read_header(file).shown
        size = {"width": width, "height": height}
        image = Image(split, record | size | {"id": number, "file_name": name}, [], file, is_new=True)
        self.images.append(image)
        return image

    def _correct(self, image: Image, path: Path, objects: list[dict[str, Any]], record: dict[str, Any]) -> None:
        name, sizes = (
            image.record["file_name"],
            [(one.get("width"), one.get("height")) for one in (record, image.record)],
        )
        if None not in sizes[0] and sizes[0] != sizes[1]:
            (w, h), (width, height) = sizes
            self.problems.append(f"{path}: {name} was corrected at {w} x {h} pixels, and has {width} x {height}")
        elif image.correction is None or self._equal(image.correction[1], objects):
            image.correction = image.correction or (path, objects)
        elif self.conflicts == "refuse":
            self.problems.append(f"{name} was corrected twice, differently: in {image.correction[0]} and in {path}")
        else:
            self.settled.append(f"{name} was corrected twice: the {self.conflicts} correction is taken")
            image.correction = (path, objects) if self.conflicts == "last" else image.correction

    def _equal(self, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
        return len(first) == len(second) == len(same(self._objects(first), self._objects(second)))

    def _objects(self, records: list[dict[str, Any]]) -> Objects:
        names = {one["id"]: one["name"] for one in self.categories}
        boxes = np.array([one["bbox"] for one in records], np.float64).reshape(-1, 4)
        return Objects(boxes, [names[one["category_id"]] for one in records], [one["id"] for one in records], records)

    def finish(self) -> tuple[dict[str, Labels], Changes]:
        """The merged labels of each split, and what changed.

        Raises:
            UserError: there are conflicts, which the message names.
        """
        if self.problems:
            more = f"; and {len(self.problems) - 3} more" if len(self.problems) > 3 else ""
            remedy = "; give --conflicts first or last" if any(" twice" in line for line in self.problems) else ""
            raise UserError(f"{'; '.join(self.problems[:3])}{more}{remedy}")
        if not any(image.correction for image in self.images):
            raise UserError("no image of the dataset was corrected: are these labels of other images?")
        self._look_at_ids()
        free = max([0, *(one["id"] for image in self.images for one in image.objects)]) + 1
        changes = Changes(conflicts=self.settled)
        for image in self.images:
            if image.correction is None:
                changes.not_corrected += 1
                continue
            found = self._merged(image, image.correction)
            changes.images.append(found)
            for one in image.objects:
                if one["id"] is None:
                    one["id"], free = free, free + 1
        return {split: self._labels(split) for split in self.sets}, changes

    def _look_at_ids(self) -> None:
        """Note for each source of corrections whether every object that did not change kept its id."""
        for image in self.images:
            if image.correction:
                path, records = image.correction
                before, after = self._objects(image.objects), self._objects(records)
                kept = all(before.ids[i] == after.ids[j] for i, j in same(before, after).items())
                self.ids_kept[path] = self.ids_kept.get(path, True) and kept

    def _merged(self, image: Image, correction: tuple[Path, list[dict[str, Any]]]) -> ImageChanges:
        """Give an image the objects of its correction; those that were added have the id None."""
        before, after = self._objects(image.objects), self._objects(correction[1])
        size = image.record["height"], image.record["width"]
        found = ImageChanges(image.record["file_name"], image.split, image.is_new)
        matched = dict(pairs(before, after, self.ids_kept[correction[0]]))
        kept = []
        for i, old in enumerate(before.records):
            j = matched.get(i)
            if j is None:
                found.removed.append({"class": before.names[i], "box": old["bbox"]})
                continue
            new, moved = after.records[j], has_moved(old, after.records[j], size)
            if before.names[i] != after.names[j]:
                names = {"before": before.names[i], "after": after.names[j]}
                found.class_changed.append(names | {"box": new["bbox"], "moved": moved})
            elif moved:
                found.changed.append({"class": after.names[j], "before": old["bbox"], "after": new["bbox"]})
            else:
                found.unchanged += 1
            own = {k: v for k, v in old.items() if k not in ("score", REVIEW, "note")}
            same_place = own | {"category_id": new["category_id"]}
            kept.append(new | {"id": old["id"], "image_id": old["image_id"]} if moved else same_place)
        for j in sorted(set(range(len(after.ids))) - set(matched.values())):
            found.added.append({"class": after.names[j], "box": after.records[j]["bbox"]})
            kept.append(after.records[j] | {"id": None, "image_id": image.record["id"]})
        image.objects = kept
        return found

    def _labels(self, split: str) -> Labels:
        mine = [image for image in self.images if image.split == split]
        objects = [one for image in mine for one in image.objects]
        content = {"images": [image.record for image in mine], "annotations": objects, "categories": self.categories}
        data = self.sets[split]
        inside = Roots(data.root, anywhere=True)
        merged = from_coco(content, data.path, data.root, BadRecords(data.path, False), inside=inside)
        marks = {one["id"]: one for one in objects}
        ranked = [marks[number] for number in merged.ids.tolist()]
        scores = np.array([one.get("score", np.nan) for one in ranked], np.float64)
        review = np.array([bool(one.get(REVIEW)) for one in ranked], bool)
        tracks = np.array([one.get("track_id", -1) for one in ranked], np.int64)
        return Labels(
            merged,
            scores=None if np.isnan(scores).all() else scores,
            review=review if review.any() else None,
            tracks=tracks if (tracks >= 0).any() else None,
            notes=[str(one.get("note", "")) for one in ranked] if any("note" in one for one in ranked) else (),
        )


def _images(split: str, data: Annotations) -> Iterator[Image]:
    """The images of a split with their objects, and the marks that objects of a COCO file have."""
    content, marks = data.to_coco(), _marks(data)
    objects: dict[int, list[dict[str, Any]]] = {}
    for record in content["annotations"]:
        objects.setdefault(record["image_id"], []).append(record | marks.get(record["id"], {}))
    for i, record in enumerate(content["images"]):
        yield Image(split, record, objects.get(record["id"], []), data.image_path(i))


def _marks(data: Annotations) -> dict[int, dict[str, Any]]:
    """Score, review, track and note of each object of a COCO file, by its id."""
    if data.path.suffix.lower() != ".json" or not data.path.is_file():
        return {}
    content = read_json(data.path)
    records: Sequence[Any] = content.get("annotations", []) if isinstance(content, dict) else []
    found = {one.get("id"): {k: one[k] for k in MARKS if k in one} for one in records if isinstance(one, dict)}
    return {number: marks for number, marks in found.items() if marks and isinstance(number, int)}
