"""Why training goes badly: rules from figures of the data, the settings and the metrics so far to sentences.

Each rule is a pure function of `Figures` and the rows of metrics.jsonl. It returns one sentence that says what is
wrong, by which numbers, and what to do; "" where it has nothing to say. The thresholds are set so that none speaks on
any of ten real sets with their own splits (blood cells, cards, COCO subsets, nuclei, facades, aerial images, parcels),
nor in runs on them that learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from detect.utils.names import counted

Row = Mapping[str, Any]  # of metrics.jsonl

PUBLISHED = "picodet_s_416"  # the weights that messages offer
FEW_STEPS = 300  # from scratch: yolo_n on blood cells has AP 0.00 after 100 steps and 0.59 after 390
FEW_TUNED = 50  # from published weights: YOLOX-nano has AP 0.05 to 0.27 on blood cells after 26 steps, 0.33 after 39
FEW_IMAGES = 5  # a handful is learned by heart
MANY_STEPS = 3000  # from scratch: the demo's digits take 1,800 steps to AP 0.7, and photographs are harder
SMALL_SHARE = 0.2  # of objects below the finest stride: COCO has 0.13 at 320 pixels
SIZE_RATIO = 1.5  # between the median object of training and validation: real splits have up to 1.15
CLASS_SHIFT = 0.4  # total variation between the class shares: real splits have up to 0.18
LOST_SHARE = 0.05  # of classes or objects in validation that training lacks
ENOUGH_OBJECTS = 30  # for a statement about medians and shares
RISEN, BACK = 1.25, 0.6  # of the lowest and of the first loss; in runs that learned it rose by up to 9 %
LOST = 0.25  # of the best AP; in runs that learned it fell back to 0.58 of it
FAST = 5  # times the default learning rate: worth a word where nothing is detected
LARGEST_SIZE = 1280  # pixels of --imgsz that messages propose


@dataclass(frozen=True)
class Figures:
    """What is known of a run before its first step.

    Attributes:
        metric: name of the metric that chooses the best epoch.
        detector: whether the task is to find objects in images.
        closed: whether the validation set has the classes of the training set, unlike that of an embedder.
        epochs, steps: those of the whole run.
        images: number of training images.
        scratch: whether nothing was pretrained.
        frozen: frozen stages of the backbone.
        lr, default_lr: the learning rate, and that of the optimizer where none is set.
        imgsz: image size in pixels.
        stride: finest stride of the model's feature maps; 0: it detects no objects.
        names: the C class names.
        train_counts, val_counts: (C,) objects of each class.
        train_sides, val_sides: (N,) square roots of the areas of the boxes in pixels at the image size.
    """

    metric: str
    detector: bool
    closed: bool
    epochs: int
    steps: int
    images: int
    scratch: bool
    frozen: int
    lr: float
    default_lr: float
    imgsz: int
    stride: int
    names: Sequence[str]
    train_counts: np.ndarray
    val_counts: np.ndarray
    train_sides: np.ndarray
    val_sides: np.ndarray

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return max(1, self.steps // max(1, self.epochs))


@dataclass(frozen=True)
class Progress:
    """How far a run is: its rows, the sum of the loss terms of each, whether it has ended, and its best metric."""

    rows: Sequence[Row]
    losses: Sequence[float]
    ended: bool
    best: float

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return self.rows[-1]["step"] if self.rows else 0


def best(figures: Figures, rows: Sequence[Row]) -> float:
    """The best metric so far, the greatest if that is the best, or else negated; -inf before the first epoch."""
    sign, name = (-1, figures.metric[1:]) if figures.metric.startswith("-") else (1, figures.metric)
    return max((sign * row[name] for row in rows), default=-math.inf)


def poor(figures: Figures, rows: Sequence[Row]) -> bool:
    """Whether the best metric is one that nobody would want: AP below 0.1, or a classifier that guesses."""
    if figures.detector or figures.metric == "localized":
        return best(figures, rows) < 0.1
    return figures.metric == "top1" and best(figures, rows) <= _guess(figures)[1]


def diagnose(
    figures: Figures, rows: Sequence[Row] = (), terms: Sequence[str] = (), ended: bool = False
) -> dict[str, str]:
    """Apply every rule.

    Args:
        figures: what is known before the first step.
        rows: one for each epoch so far.
        terms: names of the loss terms in the rows.
        ended: whether the last epoch is over.

    Returns:
        The sentences by the name of their rule.
    """
    losses = [sum(row[term] for term in terms) for row in rows]
    seen = Progress(rows, losses, ended, best(figures, rows))
    return {name: text for name, rule in RULES.items() if (text := rule(figures, seen))}


def few_steps(f: Figures, seen: Progress) -> str:
    """Too few steps: said before the first one, and at the end where the result is poor."""
    least = (FEW_STEPS if f.scratch else FEW_TUNED) if f.detector else FEW_STEPS // 3 * f.scratch
    ended_poor = seen.ended and f.scratch and f.detector and seen.best < 0.1 and f.steps < MANY_STEPS
    if (seen.rows and not seen.ended) or not (f.steps < least or ended_poor):
        return ""
    epochs = math.ceil((MANY_STEPS / 3 if f.detector and f.scratch else FEW_STEPS) / f.steps_per_epoch)
    few = f"{counted(f.steps, 'step')} {'is' if f.steps == 1 else 'are'} few"
    if f.images < FEW_IMAGES:
        return f"{counted(f.images, 'image')} cannot teach what others look like, however long: annotate more of them"
    if not f.scratch:
        return f"{few} even for fine-tuning: {_longer(f, epochs)}"
    if not f.detector:
        return f"{few} to learn from scratch: begin from pretrained weights, or {_longer(f, epochs)}"
    need = "from scratch a detector needs some thousand, a few hundred where objects are easy"
    return f"{few}; {need}: fine-tune with --weights {PUBLISHED}, or {_longer(f, epochs)}"


def frozen_at_random(f: Figures, seen: Progress) -> str:
    """Frozen stages that hold no pretrained weights."""
    if not f.scratch or not f.frozen:
        return ""
    kept = f"--freeze keeps {f.frozen} stages of the backbone at random weights"
    return f"{kept}: add --weights or --pretrained, or leave --freeze out"


def _longer(f: Figures, epochs: int) -> str:
    return f"train longer (--epochs {max(epochs, 2 * f.epochs)})"


def unknown_classes(f: Figures, seen: Progress) -> str:
    """Validation objects of classes that no training object has."""
    if not f.closed:
        return ""
    lost, present = (f.train_counts == 0) & (f.val_counts > 0), f.val_counts > 0
    objects = int(f.val_counts[lost].sum())
    share = max(lost.sum() / max(1, present.sum()), objects / max(1, f.val_counts.sum()))
    if share < LOST_SHARE:
        return ""
    some = sorted(np.flatnonzero(lost).tolist(), key=lambda i: -f.val_counts[i])
    listed = ", ".join(f"{f.names[i]} ({f.val_counts[i]})" for i in some[:5]) + (", …" if some[5:] else "")
    limit = f": AP stays below {1 - lost.sum() / present.sum():.2f}" if f.detector else ""
    return (
        f"the validation set has {objects} objects of {len(some)} classes that no training object has: {listed}{limit}"
        "; compare the class names of both files, or split the images anew"
    )


def other_classes(f: Figures, seen: Progress) -> str:
    """Classes that are far more frequent in one of the sets."""
    if not f.detector or min(f.train_counts.sum(), f.val_counts.sum()) < ENOUGH_OBJECTS:
        return ""
    train, val = f.train_counts / f.train_counts.sum(), f.val_counts / f.val_counts.sum()
    if abs(train - val).sum() / 2 < CLASS_SHIFT:
        return ""
    i = int((val - train).argmax())
    return (
        f"the classes of the validation set have other shares than in training: {f.names[i]} is {val[i]:.0%} of its "
        f"objects, and {train[i]:.0%} of those of training; split the images at random"
    )


def other_sizes(f: Figures, seen: Progress) -> str:
    """Objects that are far larger or smaller in one of the sets."""
    if not f.detector or min(len(f.train_sides), len(f.val_sides)) < ENOUGH_OBJECTS:
        return ""
    train, val = max(1e-6, float(np.median(f.train_sides))), max(1e-6, float(np.median(f.val_sides)))
    if max(train / val, val / train) < SIZE_RATIO:
        return ""
    return (
        f"the objects of the validation set have another size than those of training: {val:.0f} against {train:.0f} px "
        f"(medians at --imgsz {f.imgsz}); split the images at random, or raise --augment.scale"
    )


def small_objects(f: Figures, seen: Progress) -> str:
    """Objects smaller than a cell of the finest feature map, and the image size that would change it."""
    if not f.detector or not f.stride or not len(f.train_sides):
        return ""
    share = float((f.train_sides < f.stride).mean())
    if share < SMALL_SHARE:
        return ""
    wanted = f.stride / max(1e-6, float(np.quantile(f.train_sides, SMALL_SHARE / 2))) * f.imgsz
    size = max(f.imgsz + 32, min(math.ceil(wanted / 32) * 32, LARGEST_SIZE))
    left = float((f.train_sides * size / f.imgsz < f.stride).mean())
    tiles = "" if left < SMALL_SHARE else ", so cut the images into tiles as well"
    return (
        f"{share:.0%} of the training objects are smaller than {f.stride} px, the finest stride of the model, at "
        f"--imgsz {f.imgsz}, and are hardly learned; at --imgsz {size} it is {left:.0%}{tiles}"
    )


def learning_rate(f: Figures, seen: Progress) -> str:
    """A loss that is high again for two epochs in a row, or again and again; or AP that is lost."""
    losses = seen.losses
    if not f.closed:  # embedders mine harder triplets as they learn
        return ""
    if len(losses) < 4 or seen.steps < 50 or f.steps_per_epoch < 5:  # means of so few steps are noise
        return ""
    rises = sum(b > RISEN * a and b > BACK * losses[0] for a, b in pairwise(losses[-6:]))
    high = min(losses[-2:]) > max(RISEN * min(losses[:-2]), BACK * losses[0])
    if high or rises > 1:
        how = "rises" if high else "swings"
        numbers = f"{losses[0]:.3g} in the first epoch, {min(losses):.3g} at its lowest, {losses[-1]:.3g} now"
        return f"the loss {how}: {numbers}; {lower(f.lr)}"
    recent = best(f, seen.rows[-3:])
    if f.detector and seen.best > 0.05 and recent < LOST * seen.best:
        return f"{f.metric} was {seen.best:.3f}, and is at most {recent:.3f} in the last 3 epochs; {lower(f.lr)}"
    return ""


def lower(lr: float) -> str:
    """Advice to try a tenth of a learning rate."""
    return f"the learning rate may be too high: try --optim.lr {lr / 10:.2g}, or measure one with --find-lr"


def nothing_detected(f: Figures, seen: Progress) -> str:
    """AP 0 after many steps, or at the end: the numbers that could explain it."""
    waited = len(seen.rows) >= 5 and seen.steps >= (2 * FEW_STEPS if f.scratch else FEW_STEPS // 3)
    if not f.detector or not seen.rows or seen.best >= 0.005 or not (seen.ended or waited):
        return ""
    first, last = seen.losses[0], seen.losses[-1]
    how = ", though the loss fell" if last < 0.9 * first else ", and the loss hardly fell,"
    how = ", and the loss rose" if last > first else how
    fell = f"{how} from {first:.3g} to {last:.3g}" if seen.losses[1:] else ""
    shared = int(((f.train_counts > 0) & (f.val_counts > 0)).sum())
    said = [f"{shared} of {int((f.val_counts > 0).sum())} validation classes have training objects"]
    if len(f.train_sides):
        said.append(f"the median object has {np.median(f.train_sides):.0f} px at --imgsz {f.imgsz}")
    if f.stride:
        said.append(f"the finest stride is {f.stride}")
    if f.lr >= FAST * f.default_lr:
        said.append(f"--optim.lr {f.lr:g} is {f.lr / f.default_lr:.0f} times the optimizer's default, so {lower(f.lr)}")
    longer = ", and train longer" if seen.steps < (MANY_STEPS if f.scratch else FEW_STEPS) else ""
    at = f"{f.metric} is {max(0.0, seen.best):.3f} after {_epochs(seen)}"
    return f"{at}{fell}: {'; '.join(said)}; look at the boxes with detect check --page{longer}"


def _epochs(seen: Progress) -> str:
    return f"{counted(len(seen.rows), 'epoch')} ({counted(seen.steps, 'step')})"


def guessing(f: Figures, seen: Progress) -> str:
    """A classifier that is no better than one that always gives the same answer."""
    waited = len(seen.rows) >= 5 and seen.steps >= FEW_STEPS
    if f.metric != "top1" or not seen.rows or not (seen.ended or waited) or len(f.names) < 2:
        return ""
    name, share = _guess(f)
    if seen.best > share:
        return ""
    return (
        f"top1 is {seen.best:.3f} after {_epochs(seen)}, where always answering {name!r} has {share:.3f}: "
        f"train longer, or try another learning rate than --optim.lr {f.lr:g} (--find-lr measures one)"
    )


def _guess(f: Figures) -> tuple[str, float]:
    """The most frequent class of the validation set, and its share."""
    i = int(f.val_counts.argmax())
    return f.names[i], float(f.val_counts[i] / max(1, f.val_counts.sum()))


RULES: Mapping[str, Callable[[Figures, Progress], str]] = {
    rule.__name__: rule
    for rule in (
        *(few_steps, frozen_at_random, unknown_classes, other_classes, other_sizes, small_objects),
        *(learning_rate, nothing_detected, guessing),
    )
}
