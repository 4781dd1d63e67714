"""Average precision of resamples of the images, exact for the COCO protocol and for DOTA's.

Which detection matches which object is decided within an image, so it is found once; a resample then only weighs each
image by how often it was drawn.

Axes: I images, N detections of a class, G objects of a class, T IoU thresholds, C classes, S sizes, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_engine import GroundTruth, Predictions, matched_images
from detect.evaluation.coco_matching import ImageMatches
from detect.evaluation.coco_protocol import Records, engine_inputs
from detect.evaluation.protocol import COCO, Number, Protocol
from detect.utils.json_files import uncollected

RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
BLOCK = 4_000_000  # detections times resamples that are computed together, which bounds the memory


class ClassMatches(NamedTuple):
    """The detections of a class from the highest score to the lowest, and what they match.

    image (N,) its row in the annotations; rank (N,) its place among those of its image; right (T, N) matches an object;
    counted (T, N) right or false, rather than ignored; objects (G,) the row of the image of each object that counts.
    """

    image: np.ndarray
    rank: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    objects: np.ndarray


class _Part(NamedTuple):
    """The detections of one image and class, by falling score; objects: how many count."""

    image: int
    scores: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    objects: int


def match(annotations: Annotations, records: Records, protocol: Protocol = COCO) -> list[list[ClassMatches]]:
    """Match the detections of each size and class (S, C) once, for any number of resamples."""
    return match_ranges(annotations, engine_inputs(annotations, records), protocol.ranges, protocol)


def match_ranges(
    annotations: Annotations,
    inputs: tuple[int, int, GroundTruth, Predictions],
    ranges: Sequence[tuple[float, float]],
    protocol: Protocol = COCO,
) -> list[list[ClassMatches]]:
    """`match` of groups of objects in place of sizes: see `coco_engine.measure_groups`."""
    images, classes, objects, detections = inputs
    order = np.argsort(annotations.image_ids, kind="stable")  # the engine's images are sorted by id
    areas = detections.rows[:, 3] * detections.rows[:, 4] if detections.areas is None else detections.areas
    found = matched_images(images, classes, objects, detections, ranges, protocol)
    named = ({**one, "image_id": int(order[one["image_id"]])} for one in found)
    with uncollected():  # a result for each image, class and size
        return collect(named, classes, ranges, np.flatnonzero(objects.ids == 0) + 1, areas)


def collect(
    found: Iterable[Mapping[str, Any]],
    classes: int,
    ranges: Sequence[tuple[float, float]],
    zeros: np.ndarray,
    areas: np.ndarray,
) -> list[list[ClassMatches]]:
    """What the engine matched, by size and class.

    Args:
        found: its results by image, class and size; `image_id` is the row in the annotations, `category_id` the label.
        classes: number of classes.
        ranges: least and greatest area of each size.
        zeros: the engine's numbers of objects whose annotation id is 0: to pycocotools a match with such one is none.
        areas: those of the detections, in the order of the engine's numbers.
    """
    parts: list[list[list[_Part]]] = [[[] for _ in range(classes)] for _ in ranges]
    place = {tuple(map(float, one)): s for s, one in enumerate(ranges)}
    for one in found:
        low, high = map(float, one["aRng"])
        matched, ignored = np.array(one["dtMatches"], np.int64), np.array(one["dtIgnore"], bool)
        right = matched > 0
        if len(zeros) and (lost := np.isin(matched, zeros)).any():
            own = areas[np.array(one["dtIds"]) - 1]
            right, ignored = right & ~lost, ignored | (lost & ((own < low) | (own > high)))
        scores, objects = np.array(one["dtScores"], np.float64), sum(not lost for lost in one["gtIgnore"])
        part = _Part(one["image_id"], scores, right & ~ignored, ~ignored, objects)
        parts[place[low, high]][one["category_id"]].append(part)
    return [[_joined(some) for some in by_class] for by_class in parts]


def collect_overlaps(matches: Sequence[Sequence[ImageMatches]], order: np.ndarray) -> list[list[ClassMatches]]:
    """What `matched_overlaps` matched, by size and class; `order` (I,) is the row in the annotations of each image."""
    sizes = next((len(part.objects) for parts in matches for part in parts), 1)
    return [
        [
            _joined(
                [
                    _Part(int(order[p.image]), p.scores, p.right[s] & ~p.ignored[s], ~p.ignored[s], int(p.objects[s]))
                    for p in parts
                ]
            )
            for parts in matches
        ]
        for s in range(sizes)
    ]


def _joined(parts: Sequence[_Part]) -> ClassMatches:
    """The images of a class as one, sorted by score."""
    none = np.zeros(0, np.int64)
    if not parts:
        return ClassMatches(none, none, np.zeros((1, 0), bool), np.zeros((1, 0), bool), none)
    counts = [len(part.scores) for part in parts]
    order = np.argsort(-np.concatenate([part.scores for part in parts]), kind="stable")
    images = np.array([part.image for part in parts])
    return ClassMatches(
        np.repeat(images, counts)[order],
        np.concatenate([np.arange(count) for count in counts])[order],
        np.concatenate([part.right for part in parts], axis=1)[:, order],
        np.concatenate([part.counted for part in parts], axis=1)[:, order],
        np.repeat(images, [part.objects for part in parts]),
    )


def resampled_ap(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """AP (R,) of resamples in which the images count as often as `weights` (R, I) says; NaN without any object."""
    ap: np.ndarray = resampled_numbers([matches], weights, [""] * len(matches), COCO.numbers())["AP"]
    return ap


def resampled_numbers(
    matches: Sequence[Sequence[ClassMatches]],
    weights: np.ndarray,
    names: Sequence[str],
    numbers: Mapping[str, Number],
    limits: Sequence[int] = COCO.limits,
) -> dict[str, Any]:
    """The numbers of resamples.

    Args:
        matches: of each size and class (S, C); sizes may be missing at the end, and then so are their numbers.
        weights: (R, I) how often each image counts.
        names: of the classes.
        numbers: which numbers, as in `Protocol`.
        limits: of detections of an image and class.

    Returns:
        The numbers by name, (R,) each, NaN where there are no objects, and `per_class`: AP (R,) by class name.
    """
    kept: np.ndarray = np.asarray(weights.any(0))  # images that no resample has change nothing
    if not kept.all():
        matches = [[_of_images(one, kept) for one in by_class] for by_class in matches]
    most = max((len(one.image) for by_class in matches for one in by_class), default=0)
    step = max(1, BLOCK // max(most, 1))
    blocks = [
        _block(matches, weights[start : start + step], numbers, limits)
        for start in range(0, max(len(weights), 1), step)
    ]
    values = {name: np.concatenate([block[0][name] for block in blocks]) for name in blocks[0][0]}
    per_class = np.concatenate([block[1] for block in blocks], axis=1)
    return {**values, "per_class": dict(zip(names, per_class, strict=True))}


def _of_images(one: ClassMatches, kept: np.ndarray) -> ClassMatches:
    """The matches in images (I,) that are kept."""
    rows = kept[one.image]
    columns = one.image[rows], one.rank[rows], one.right[:, rows], one.counted[:, rows]
    return ClassMatches(*columns, one.objects[kept[one.objects]])


def _block(
    matches: Sequence[Sequence[ClassMatches]], weights: np.ndarray, numbers: Mapping[str, Number], limits: Sequence[int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The numbers of some resamples, and AP (C, R) of each class."""
    columns = np.ascontiguousarray(weights.T)
    wanted = {name: one for name, one in numbers.items() if one[2] < len(matches)}
    sums = {name: np.zeros(len(weights)) for name in wanted}
    counts = np.zeros((len(matches), len(weights)))
    per_class = np.full((len(matches[0]), len(weights)), np.nan)
    for s, by_class in enumerate(matches):
        for c, one in enumerate(by_class):
            precision, recall = _class(one, columns, limits)
            known = ~np.isnan(precision[0])
            counts[s] += known
            for name, (array, at, size, limit) in wanted.items():
                if size == s and known.any():
                    values = precision[at] if array == "precision" else recall[limit][at]
                    sums[name][known] += values[:, known].mean(0) if len(values) else np.nan
            if s == 0:
                per_class[c] = precision.mean(0)
    with np.errstate(invalid="ignore"):
        return {name: sums[name] / counts[wanted[name][2]] for name in wanted}, per_class


def _class(one: ClassMatches, columns: np.ndarray, limits: Sequence[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """AP (T, R) and, for each limit, recall (T, R) of a class; `columns` (I, R) are the weights."""
    whole = (columns[np.unique(np.concatenate([one.image, one.objects]))] == 1).all(0)
    if whole.sum() > 1:  # such resamples are all the set itself, as where single images are left out
        first = int(whole.argmax())
        some = np.append(first, np.flatnonzero(~whole))
        place = np.where(whole, 0, np.cumsum(~whole))
        ap, recall = _class(one, np.ascontiguousarray(columns[:, some]), limits)
        return ap[:, place], [each[:, place] for each in recall]
    objects = columns[one.objects].sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ap = average_precision(one, columns, RECALLS)
        recall = [
            np.stack([columns[one.image[right & (one.rank < limit)]].sum(0) / objects for right in one.right])
            for limit in limits
        ]
    return ap, recall


def average_precision(one: ClassMatches, columns: np.ndarray, levels: np.ndarray | None) -> np.ndarray:
    """AP (T, R) of a class, NaN where a resample has no objects.

    Args:
        one: the class.
        columns: (I, R) how often each image counts.
        levels: of recall, ascending from 0, at which precision is read: the best at that recall or a higher one.
            None: the area under that curve.
    """
    objects = columns[one.objects].sum(0)
    found = np.where(objects > 0, 0.0, np.nan) * np.ones((len(one.right), 1))
    for t, (right, counted) in enumerate(zip(one.right, one.counted, strict=True)):
        rows = np.flatnonzero(right)
        if not len(rows):
            continue
        kept = np.flatnonzero(counted[: rows[-1] + 1])  # what follows the last true positive changes nothing
        total = columns[one.image[kept]].cumsum(0)[np.searchsorted(kept, rows)]
        hits = columns[one.image[rows]].cumsum(0)
        best = np.maximum.accumulate((hits / np.maximum(total, 1))[::-1], axis=0)[::-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = hits / objects
        if levels is not None:
            share = np.searchsorted(levels, share, side="right") / len(levels)
        found[t] += (np.diff(share, axis=0, prepend=0) * best).sum(0)
    return found
