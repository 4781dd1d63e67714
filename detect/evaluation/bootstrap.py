"""How sure an AP is: the bootstrap over images (Efron, 1979), exact for the COCO protocol, and paired tests.

A resample draws as many images as there are, with repetition. Which detection matches which object is decided within an
image, so it is found once; a resample then only weighs each image by how often it was drawn.
Axes: I images, N detections of a class, T 10 IoU thresholds, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_engine import matched_images
from detect.evaluation.coco_protocol import Records, engine_inputs

RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
THRESHOLDS = 10
MOST, LEAST, WORK = 1000, 200, 400_000  # resamples of few and of many images; resamples times images between them


class ClassMatches(NamedTuple):
    """The detections of a class from the highest score to the lowest, and what they match.

    image (N,) its row in the annotations; right (T, N) matches an object; counted (T, N) right or false, rather than
    ignored; objects (I,) objects of each image.
    """

    image: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    objects: np.ndarray


def resamples_for(images: int) -> int:
    """How many resamples to draw: a thousand, fewer where evaluating that many would take minutes."""
    return int(np.clip(WORK // max(images, 1), LEAST, MOST))


def draw_weights(images: int, resamples: int, seed: int = 0) -> np.ndarray:
    """(R, I) how often each resample has each image; the same for all models, so that differences are paired."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(images, size=(resamples, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn])


def match(annotations: Annotations, records: Records) -> list[ClassMatches]:
    """Match the detections of each class once, for any number of resamples."""
    images, classes, objects, detections = engine_inputs(annotations, records)
    order = np.argsort(annotations.image_ids, kind="stable")  # the engine's images are sorted by id
    found: list[list[ClassMatches]] = [[] for _ in range(classes)]
    scores: list[list[np.ndarray]] = [[] for _ in range(classes)]
    uncounted = np.flatnonzero(objects.ids == 0) + 1  # as pycocotools: a match with the object of id 0 is none
    for one in matched_images(images, classes, objects, detections):
        matched, ignored = np.array(one["dtMatches"], np.int64), np.array(one["dtIgnore"], bool)
        right, row = (matched > 0) & ~np.isin(matched, uncounted), int(order[one["image_id"]])
        image, each = np.full(matched.shape[1], row), np.zeros(images, np.int64)
        each[row] = np.count_nonzero(~np.array(one["gtIgnore"], bool))
        found[one["category_id"]].append(ClassMatches(image, right & ~ignored, ~ignored, each))
        scores[one["category_id"]].append(np.array(one["dtScores"], np.float64))
    return [_joined(parts, values, images) for parts, values in zip(found, scores, strict=True)]


def _joined(parts: Sequence[ClassMatches], scores: Sequence[np.ndarray], images: int) -> ClassMatches:
    """The images of a class as one, sorted by score."""
    if not parts:
        none = np.zeros((THRESHOLDS, 0), bool)
        return ClassMatches(np.zeros(0, np.int64), none, none, np.zeros(images, np.int64))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    image, right, counted = (np.concatenate([part[i] for part in parts], axis=-1)[..., order] for i in range(3))
    return ClassMatches(image, right, counted, np.sum([part.objects for part in parts], axis=0))


def resampled_ap(matches: Sequence[ClassMatches], weights: np.ndarray) -> np.ndarray:
    """AP (R,) of resamples in which the images count as often as `weights` (R, I) says; NaN without any object."""
    total, classes = np.zeros(len(weights)), np.zeros(len(weights))
    for one in matches:
        objects = weights @ one.objects
        for r in np.flatnonzero(objects).tolist():
            total[r] += _class_ap(one, weights[r, one.image], int(objects[r]))
        classes += objects > 0
    with np.errstate(invalid="ignore"):
        return total / classes


def _class_ap(one: ClassMatches, weights: np.ndarray, objects: int) -> float:
    """AP of a class, whose detections count as often as `weights` (N,) says."""
    right, counted = (one.right * weights).cumsum(1), (one.counted * weights).cumsum(1)
    precision = right / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
    padded = np.hstack([best, np.zeros((len(best), 1))])
    recall = right / objects
    return float(np.mean([values[np.searchsorted(at, RECALLS)] for values, at in zip(padded, recall, strict=True)]))


def centred(values: np.ndarray, estimate: float) -> np.ndarray:
    """Resampled values (R,) moved so that their mean is the estimate.

    An image that is drawn twice makes classes with few objects easier or lets them vanish: the AP of resamples is
    biased, by more than its interval where there are many rare classes.
    """
    return values - np.nanmean(values) + estimate


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
    return low, high


def p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of a paired bootstrap test: how often the difference of resamples (R,) has the other sign.

    Never less than 1/R.
    """
    less, more = (a <= b).mean(), (a >= b).mean()
    return float(min(1.0, max(1 / len(a), 2 * min(less, more))))
