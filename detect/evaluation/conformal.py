"""A confidence threshold with a guarantee: `detect evaluate --guarantee recall 0.95`.

Conformal risk control (Angelopoulos et al., 2022, arXiv 2208.02814): the loss of an image is the share of its objects
that no detection above the threshold matches, which never rises as the threshold falls. If the calibration images and
a new one are exchangeable, the expected loss of the new one is at most 1 - recall where

    (sum of the losses of the n calibration images + 1) / (n + 1) <= 1 - recall.

Images without objects have no recall: n is the number of those with objects, and so is a new image meant.

Axes: I images, N detections, S random splits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np

from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.operating_points import (
    Curve,
    OperatingPoint,
    Target,
    Thresholds,
    class_curves,
    conf_below,
    overall_curve,
)
from detect.evaluation.tide import FOREGROUND, RIGHT, ErrorAnalysis
from detect.models.base import ModelMetadata
from detect.utils.names import counted

KINDS = ("recall",)  # a precision may fall with the threshold: it cannot be controlled in this way
SLACK = 1e-9  # of sums that rounding moves
WIDTH = 120  # of the lines


class Matches(NamedTuple):
    """What the recall of images depends on.

    scores (N,) of the true positives; images (N,) where each is; objects (I,) how many each image has.
    """

    scores: np.ndarray
    images: np.ndarray
    objects: np.ndarray

    def recall(self, conf: float) -> np.ndarray:
        """The recall (I,) of each image at a threshold, NaN without objects."""
        found = np.bincount(self.images[self.scores > conf], minlength=len(self.objects))
        with np.errstate(invalid="ignore"):
            return np.asarray(found / self.objects)

    def of(self, images: np.ndarray) -> Matches:
        """Those of some images."""
        place = np.full(len(self.objects), -1)
        place[images] = np.arange(len(images))
        rows = place[self.images] >= 0
        return Matches(self.scores[rows], place[self.images[rows]], self.objects[images])


def matches_of(annotations: Annotations, errors: ErrorAnalysis) -> Matches:
    """The matches of an evaluation; crowd regions are no objects."""
    right, image = errors.kind == RIGHT, np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    objects = np.bincount(image[~annotations.crowd], minlength=len(annotations))
    return Matches(errors.scores[right], errors.image[right], objects)


def least_images(recall: float) -> int:
    """The fewest images with objects that allow a guarantee, if the detector misses nothing.

    >>> least_images(0.95)
    19
    """
    return math.ceil(recall / (1 - recall) - SLACK)


def controlled_score(matches: Matches, recall: float, unseen: int = 1) -> float | None:
    """The score of the last detection that must be kept for the guarantee: the threshold lies below it.

    None where even all detections miss too much, or the images are too few.

    Args:
        matches: those of the calibration images.
        recall: what is guaranteed.
        unseen: new images that may have the highest loss: 1; 0: no guarantee, the recall of these images alone.
    """
    known = matches.objects > 0
    order = np.argsort(-matches.scores, kind="stable")
    scores, found = matches.scores[order], (1 / matches.objects[matches.images[order]]).cumsum()
    enough = np.flatnonzero(found >= (known.sum() + unseen) * recall - SLACK)
    return float(scores[enough[0]]) if len(enough) else None


class Guarantee(NamedTuple):
    """A confidence threshold with a guaranteed recall.

    recall: what is guaranteed; images: those with objects that it was chosen on, of `total`; mean: the mean recall of
    these images; point: all classes together at the threshold; plain: the same where that mean just reaches `recall`,
    without a guarantee; names, classes: each class at the threshold.
    """

    recall: float
    images: int
    total: int
    mean: float
    point: OperatingPoint
    plain: OperatingPoint
    names: Sequence[str]
    classes: Sequence[OperatingPoint]

    @property
    def thresholds(self) -> Thresholds:
        """The threshold as those that weights keep: one for all classes."""
        return Thresholds(Target("guaranteed recall", self.recall), self.point, self.names, [None] * len(self.names))

    def cost(self, point: OperatingPoint) -> str:
        """The false positives of an image on average, those without objects too."""
        return f"{(point.predicted - point.right) / self.total:.2f} false positives an image"

    def values(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {
            "kind": "recall",
            "value": self.recall,
            "iou": FOREGROUND,
            "images": self.images,
            "mean_recall": self.mean,
            "false_per_image": (self.point.predicted - self.point.right) / self.total,
            **self.point.values(),
            "per_class": {name: one.values() for name, one in zip(self.names, self.classes, strict=True)},
        }


def wanted_recall(config: EvaluateConfig) -> float | None:
    """The recall of `config.guarantee`; None without.

    Raises:
        UserError: it names something else.
    """
    if not config.guarantee:
        return None
    kind, *value = config.guarantee
    if kind not in KINDS:
        raise UserError(f"--guarantee {kind}: only a recall can be guaranteed; write --guarantee recall 0.95")
    try:
        (recall,) = map(float, value)
    except ValueError:
        recall = math.nan
    if not 0 < recall < 1:
        given = " ".join(config.guarantee)
        raise UserError(f"--guarantee {given}: write one number between 0 and 1, as in --guarantee recall 0.95")
    return recall


def require_images(config: EvaluateConfig, annotations: Annotations) -> None:
    """Raise UserError where the split has too few images for `config.guarantee`, before anything is computed."""
    recall = wanted_recall(config)
    if recall is None:
        return
    image = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    found, least = len(np.unique(image[~annotations.crowd])), least_images(recall)
    if found < least:
        most = f", or guarantee {_down(found / (found + 1))} at most" if found else ""
        raise UserError(
            f"--guarantee recall {recall:g} needs {counted(least, 'image')} with objects or more, and {config.split} "
            f"of {annotations.path} has {found}: label more images{most}"
        )


def choose_guarantee(config: EvaluateConfig, annotations: Annotations, errors: ErrorAnalysis) -> Guarantee | None:
    """The threshold for `config.guarantee`; None without.

    Raises:
        UserError: the detections miss too much for it.
    """
    recall = wanted_recall(config)
    if recall is None:
        return None
    matches, curve = matches_of(annotations, errors), overall_curve(errors)
    last, images = controlled_score(matches, recall), int((matches.objects > 0).sum())
    if last is None:
        all_found = float(np.nansum(matches.recall(-1)))
        remedy = "train longer" if all_found / images < recall else "use more images"
        most = f"; {_down(all_found / (images + 1))} is the most that {counted(images, 'image')} can guarantee"
        raise UserError(
            f"--guarantee recall {recall:g} cannot be given: all detections together find "
            f"{all_found / images:.3f} of the objects of an image on average{most}; {remedy}, or ask for less"
        )
    point, plain = (_below(curve, score) for score in (last, controlled_score(matches, recall, unseen=0) or last))
    classes = [one.at(point.conf) for one in class_curves(errors, len(annotations.names))]
    mean = float(np.nanmean(matches.recall(point.conf)))
    return Guarantee(recall, images, len(annotations), mean, point, plain, annotations.names, classes)


def _below(curve: Curve, score: float) -> OperatingPoint:
    """The operating point of a threshold just below a score of the curve."""
    return curve.at(conf_below(curve.scores, int((curve.scores >= score).sum()) - 1))


def guarantee_lines(found: Guarantee, config: EvaluateConfig, metadata: ModelMetadata | None) -> Iterator[str]:
    """The lines that `detect evaluate` prints: the threshold, its cost, what the guarantee assumes, and each class."""
    first, *others = guarantee_text(found, config, metadata)
    yield first
    for line in others:
        yield from wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")
    for name, one in zip(found.names, found.classes, strict=True):
        if one.objects:
            yield f"  {name:<24} recall {one.recall or 0:.3f}, {found.cost(one)}; not guaranteed for a class alone"


def guarantee_text(found: Guarantee, config: EvaluateConfig, metadata: ModelMetadata | None) -> Iterator[str]:
    """What is to be said of a guarantee, line by line, but for the classes."""
    point, plain = found.point, found.plain
    yield (
        f"guaranteed recall {found.recall:g} at IoU {FOREGROUND:g}: conf {point.conf:g}, by conformal risk control on "
        f"{counted(found.images, 'image')} with objects of {config.split}"
    )
    yield f"on these images: recall {found.mean:.3f} on average, {point.recall or 0:.3f} of all objects"
    yield (
        f"cost: {found.cost(point)}, precision {point.precision or 0:.3f}; conf {plain.conf:g}, at which their mean "
        f"recall is just {found.recall:g}, has {found.cost(plain)}, precision {plain.precision or 0:.3f}"
    )
    yield (
        "it says: the share of an image's objects that are found, right class and IoU of "
        f"{FOREGROUND:g} or more, is {found.recall:g} or more on average over new images and such calibration sets"
    )
    yield f"it assumes: new images are exchangeable with those of {config.split}, and predicted with the same options"
    if metadata and metadata.calibration and metadata.calibration.basis.startswith(f"{config.split} of "):
        yield f"the confidences were calibrated on {metadata.calibration.basis}: take other images for the guarantee"


def covered(
    matches: Matches, recall: float, share: float, splits: int, seed: int = 0, unseen: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the threshold on a random part of the images and measure it on the rest, again and again.

    Args:
        matches: of all images; those without objects are left out.
        recall: what is guaranteed.
        share: of the images that the threshold is chosen on.
        splits: how often.
        seed: of the draw.
        unseen: see `controlled_score`.

    Returns:
        The mean recall (S,) of the images that were not chosen on, NaN where the guarantee was refused, and the
        thresholds (S,).
    """
    rng, known = np.random.default_rng(seed), np.flatnonzero(matches.objects > 0)
    found, confs = np.full(splits, np.nan), np.full(splits, np.nan)
    for split in range(splits):
        order = rng.permutation(known)
        ours, others = np.split(order, [round(share * len(order))])
        last = controlled_score(matches.of(ours), recall, unseen)
        if last is not None:
            confs[split] = np.nextafter(last, 0)
            found[split] = matches.of(others).recall(confs[split]).mean()
    return found, confs


def _down(value: float) -> str:
    """A share rounded down, so that it can be asked for."""
    return f"{math.floor(value * 1000) / 1000:g}"
