"""The numbers of parts of a split: `detect evaluate --slice`.

A part of the images is evaluated as a split of its own: images outside it count zero times. A group of objects is what
pycocotools does with an area range: objects of other groups, what matches them, and unmatched detections of other
groups are left out.

Axes: I images, G objects, R resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.data.sources.image_folder import read_csv
from detect.data.sources.values import listed_once
from detect.errors import UserError
from detect.evaluation.bootstrap import Bootstrap, Resampled, draw_weights, leaves, nested, resamples_for
from detect.evaluation.breakdown import (
    ASPECTS,
    RATIOS,
    aspect_inputs,
    aspects,
    crowding,
    mean_brightness,
    quarters,
    size_names,
)
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_protocol import engine_inputs
from detect.evaluation.resampled_ap import ClassMatches, match_ranges, resampled_numbers
from detect.utils.json_files import read_json
from detect.utils.names import counted

OBJECTS = ("size", "aspect")  # slices of objects; all others are of images
MOST = 20  # groups of a column; the images of smaller groups are one group
FEW = 8  # distinct numbers of a column up to which each is a group
NAMES = ("image", "file_name", "file", "filename", "name", "path")  # columns of a table that name the image


class Slice(NamedTuple):
    """A part of a split: what it is a slice by, its name, its images and objects, and its numbers.

    `numbers` has intervals where resamples were drawn: see `Bootstrap`.
    """

    by: str
    name: str
    images: int
    objects: int
    numbers: Bootstrap

    def number(self, name: str) -> tuple[float | None, tuple[float, float] | None]:
        """A single number and its interval, None where undefined."""
        known = (name,) in self.numbers.values
        return self.numbers.estimates.get((name,)), self.numbers.interval((name,)) if known else None


def slices(
    kinds: Sequence[str], evaluator: Resampled, annotations: Annotations, table: str = "", resamples: int = -1
) -> Iterator[Slice]:
    """The slices of an evaluation.

    Args:
        kinds: size, aspect, folder, brightness, crowding, or the name of a column.
        evaluator: one that has taken all its predictions.
        annotations: the split.
        table: csv file with the columns. Default: the COCO file, whose image records have them.
        resamples: of each slice. -1: `resamples_for` its images; 0: none, and then there are no intervals.

    Raises:
        UserError: the task has no such slices, or the column is not there.
    """
    for kind in kinds:
        if kind in OBJECTS:
            boxes = getattr(evaluator, "boxes", None)
            if not isinstance(boxes, CocoEvaluator):
                raise UserError(
                    f"--slice {kind} parts the objects of detectors: slice by folder, brightness or a column"
                )
            yield from _object_slices(kind, boxes, annotations, resamples)
        else:
            place, names = image_groups(kind, annotations, table)
            yield from _image_slices(kind, place, names, evaluator, annotations, resamples)


def image_groups(kind: str, annotations: Annotations, table: str = "") -> tuple[np.ndarray, list[str]]:
    """The group of each image (I,), -1 for none, and the names of the groups. Raises UserError as `slices` does."""
    if kind == "brightness":
        return quarters(mean_brightness(annotations))
    if kind == "crowding":
        return crowding(annotations)
    if kind == "folder":
        return _grouped([str(Path(annotations.file_name(i)).parent) for i in range(len(annotations))])
    values = _from_table(kind, annotations, Path(table)) if table else _from_records(kind, annotations)
    numbers = [_number(value) for value in values]
    known = [one for one in numbers if one is not None]
    if len(known) < sum(value is not None for value in values) or len(set(known)) <= FEW:
        return _grouped(["none" if value is None else str(value) for value in values])
    place, names = quarters(np.array(known), 0 if max(map(abs, known)) >= 100 else 2)
    found = np.full(len(values), len(names))
    found[[one is not None for one in numbers]] = place
    return found, [*names, "none"]


def _grouped(values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """A group for each distinct value, the largest first; small ones are one group where there are many."""
    names = [name for name, _ in Counter(values).most_common()]
    rank = {name: min(k, MOST) for k, name in enumerate(names)}
    shown = [*names[:MOST], *([f"{len(names) - MOST} others"] if len(names) > MOST else [])]
    return np.array([rank[value] for value in values], np.int64), shown


def _number(value: Any) -> float | None:
    try:
        number = float(value) if not isinstance(value, bool) and value is not None else np.nan
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _from_records(column: str, annotations: Annotations) -> list[Any]:
    """The value of a key of each image record of the COCO file; None where a record lacks it."""
    whole = read_json(annotations.path) if annotations.path.suffix.lower() == ".json" else {}
    images = whole.get("images", []) if isinstance(whole, dict) else []
    records = {one.get("id"): one for one in images if isinstance(one, dict)}
    values = [records.get(image, {}).get(column) for image in annotations.image_ids.tolist()]
    if all(value is None for value in values):
        known = sorted({key for one in records.values() for key in one})
        has = f"whose image records have: {', '.join(known)}" if known else "which has no image records"
        raise UserError(
            f"--slice {column} is no key of the image records of {annotations.path}, {has}: slice by size, aspect, "
            "folder, brightness, crowding or one of these, or give a csv with --slice-table"
        )
    return [value if isinstance(value, str | int | float) or value is None else str(value) for value in values]


def _from_table(column: str, annotations: Annotations, path: Path) -> list[Any]:
    """The value of a column of a csv for each image; None where the csv lacks the image or the value is empty."""
    columns, rows = read_csv(path)
    key = next((name for name in NAMES if name in columns), None)
    if key is None or column.lower() not in columns:
        missing = column if key else f"image (or {', '.join(NAMES[1:])})"
        raise UserError(f"{path}: the first line names no column {missing}; it has: {', '.join(columns) or 'none'}")
    cells = (((row.get(key) or "").strip(), (row.get(column.lower()) or "").strip() or None) for row in rows)
    values = listed_once(path, cells)
    names = [annotations.file_name(i) for i in range(len(annotations))]
    short = Counter(Path(name).name for name in names)
    found = [values.get(name, values.get(Path(name).name) if short[Path(name).name] == 1 else None) for name in names]
    if all(value is None for value in found):
        raise UserError(f"{path}: column {key} names none of the images of {annotations.path}, such as {names[0]}")
    return found


def _image_slices(
    kind: str, place: np.ndarray, names: Sequence[str], evaluator: Resampled, annotations: Annotations, resamples: int
) -> Iterator[Slice]:
    objects = _objects_of_images(annotations)
    for k, name in enumerate(names):
        some = np.flatnonzero(place == k)
        if len(some):
            count = resamples_for(len(some)) if resamples < 0 else resamples
            weights = np.zeros((count + 1, len(annotations)), np.int32)
            weights[0, some] = 1
            weights[1:, some] = draw_weights(len(some), count)
            found = _numbers(evaluator.resampled(weights))
            yield Slice(kind, name, len(some), int(objects[some].sum()), found)


def _object_slices(kind: str, evaluator: CocoEvaluator, annotations: Annotations, resamples: int) -> Iterator[Slice]:
    protocol, owner = evaluator.protocol, np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    names: Sequence[str]
    if kind == "size":
        names, parts = size_names(protocol), evaluator.matches[1:]
        areas = engine_inputs(annotations, evaluator.records())[2].areas
        place = np.searchsorted(protocol.edges, areas, side="right")
    else:
        inputs, ranges = aspect_inputs(annotations, evaluator.records()), list(pairwise(RATIOS))
        names, parts, place = ASPECTS, match_ranges(annotations, inputs, ranges, protocol), aspects(annotations)
    count = resamples_for(len(annotations)) if resamples < 0 else resamples
    weights = np.ones((count + 1, len(annotations)), np.int32)
    weights[1:] = draw_weights(len(annotations), count)
    for k, (name, matches) in enumerate(zip(names, parts, strict=True)):
        here = (place == k) & ~annotations.crowd
        found = _numbers(_resampled_group(evaluator, matches, weights))
        yield Slice(kind, name, len(np.unique(owner[here])), int(here.sum()), found)


def _resampled_group(evaluator: CocoEvaluator, matches: Sequence[ClassMatches], weights: np.ndarray) -> dict[str, Any]:
    """The numbers (R,) of a group of objects: those that are not of a size."""
    protocol = evaluator.protocol
    names = {evaluator.prefix + name: one for name, one in protocol.numbers().items() if one[2] == 0}
    found = resampled_numbers([matches], weights, evaluator.annotations.names, names, protocol.limits)
    return found | {f"{evaluator.prefix}per_class": found.pop("per_class")}


def _numbers(found: dict[str, Any]) -> Bootstrap:
    """The numbers of a slice, whose first row is the slice and whose other rows are resamples of it."""
    known = {name: values for name, values in leaves(found) if not np.isnan(values[0])}
    estimates = {name: float(values[0]) for name, values in known.items()}
    return Bootstrap.of(estimates, {name: values[1:] for name, values in known.items()})


def _objects_of_images(annotations: Annotations) -> np.ndarray:
    """The objects (I,) of each image, crowd regions aside."""
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    counts: np.ndarray = np.bincount(owner[~annotations.crowd], minlength=len(annotations))
    return counts


def slice_lines(found: Sequence[Slice], metric: str) -> Iterator[str]:
    """The lines that `detect evaluate` prints of slices."""
    for kind in dict.fromkeys(one.by for one in found):
        some = [one for one in found if one.by == kind]
        metric = shown_number(some, metric)
        yield f"{metric} by {kind} (95 % interval)"
        for one in some:
            value, between = one.number(metric)
            told = "  -  " if value is None else f"{value:.3f}"
            sure = f"{between[0]:.3f}\u2013{between[1]:.3f}" if between else "-"
            of = f"{counted(one.images, 'image')}, {counted(one.objects, 'object')}"
            yield f"  {one.name:<28} {told}  {sure:<12} of {of}"


def shown_number(some: Sequence[Slice], metric: str) -> str:
    """The number that slices are told by: the metric, or AP where they lack it (sizes of keypoints do)."""
    return metric if any((metric,) in one.numbers.estimates for one in some) else "AP"


def slice_values(found: Sequence[Slice]) -> list[dict[str, Any]]:
    """Slices as plain values, for a file."""
    return [
        {
            **{name: getattr(one, name) for name in ("by", "name", "images", "objects")},
            "numbers": nested(one.numbers.estimates),
            "intervals": one.numbers.intervals(),
        }
        for one in found
    ]
