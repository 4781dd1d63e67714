"""Folds of a dataset, and a model for each that was trained on the others.

Axes: I images, C classes, K folds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.boxes import objects, owners
from detect.data_check.images import Seen, near_pairs, same_files
from detect.errors import UserError
from detect.utils.atomic_io import replace_text
from detect.utils.names import counted, say

SEEDS = 1 << 16


def same_images(seen: Sequence[Seen]) -> np.ndarray:
    """Return (I,) a group for each image: equal files and near duplicates are of one, and so are theirs."""
    group = np.arange(len(seen))
    pairs = [(one[0], other) for one in same_files(seen) for other in one[1:]]
    pairs += [(i, other) for i, others in near_pairs(seen) for other in others.tolist()]
    for a, b in pairs:
        low, high = sorted((group[a], group[b]))
        group[group == high] = low
    return np.unique(group, return_inverse=True)[1]


def split_folds(groups: np.ndarray, counts: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """Divide images into folds that are alike in their classes.

    The group whose rarest class is rarest comes first, and goes to the fold that has the fewest objects of that class;
    of equal ones, to the fold with the fewest images (iterative stratification: Sechidis et al. 2011).

    Args:
        groups: (I,) images of one group stay together.
        counts: (I, C) objects of each class in each image.
        folds: how many.
        seed: of the order of equal groups.

    Returns:
        (I,) the fold of each image.

    Raises:
        UserError: there are fewer groups than folds.
    """
    amount = int(groups.max(initial=-1)) + 1
    if amount < folds:
        distinct = counted(amount, "distinct image")
        raise UserError(f"--folds {folds}: the split has only {distinct}; choose fewer folds, or give --weights")
    objects_of = np.zeros((amount, counts.shape[1]), np.int64)
    np.add.at(objects_of, groups, counts)
    sizes, totals = np.bincount(groups, minlength=amount), counts.sum(0)
    rarity = np.where(objects_of > 0, totals, totals.sum() + 1)
    rarest = rarity.min(1, initial=totals.sum() + 1)
    order = np.random.default_rng(seed).permutation(amount)
    order = order[np.lexsort((-sizes[order], rarest[order]))]
    held, images, fold_of = np.zeros((folds, counts.shape[1]), np.int64), np.zeros(folds, np.int64), np.zeros(amount)
    for group in order.tolist():
        empty = not objects_of[group].any()
        key = images if empty else held[:, int(rarity[group].argmin())]
        fold = int(np.lexsort((images, key))[0])
        fold_of[group] = fold
        held[fold] += objects_of[group]
        images[fold] += sizes[group]
    return fold_of[groups].astype(np.int64)


def class_counts(annotations: Annotations) -> np.ndarray:
    """Return (I, C) objects of each class in each image; crowd regions are none."""
    counts, kept = np.zeros((len(annotations), len(annotations.names)), np.int64), objects(annotations)
    np.add.at(counts, (owners(annotations)[kept], annotations.labels[kept]), 1)
    return counts


def train_folds(
    annotations: Annotations, fold_of: np.ndarray, out: Path, options: Mapping[str, Any]
) -> Iterator[tuple[np.ndarray, Path]]:
    """Train a model for each fold on the images of the others, in a run folder of its own.

    A run that was broken off is resumed, and one that has ended is not repeated. The images of a fold also choose the
    epoch that is kept: this is all that its labels decide about its model.

    Args:
        annotations: those of the split.
        fold_of: (I,) the fold of each image.
        out: folder that gets fold-1, fold-2, ….
        options: of `detect train`, by name.

    Yields:
        The images of a fold (M,), and the weights for them.
    """
    from detect.cli.parser import from_values
    from detect.training.run_record import holds_run
    from detect.training.setup import train

    folds = int(fold_of.max()) + 1
    for fold in range(folds):
        folder, held_out = out / f"fold-{fold + 1}", np.flatnonzero(fold_of == fold)
        write_fold(annotations, fold_of, fold, folder)
        run = folder / "run"
        done = holds_run(run)
        say(f"fold {fold + 1} of {folds}: {counted(len(held_out), 'image')} held out{', resumed' * done}")
        settings = {**options, "data": str(folder / "data.yaml"), "out": str(run), "resume": done or None}
        yield held_out, train(from_values("train", settings))


def write_fold(annotations: Annotations, fold_of: np.ndarray, fold: int, folder: Path) -> None:
    """Write the dataset of a fold: its images are val, all others train. Files that are equal already stay."""
    lines = []
    for name, chosen in (("train", fold_of != fold), ("val", fold_of == fold)):
        text = json.dumps(annotations.select(np.flatnonzero(chosen)).to_coco())
        path = folder / f"{name}.json"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            replace_text(path, text)
        root = json.dumps(str(annotations.root.resolve()))
        lines.append(f"{name}: {{annotations: {name}.json, images: {root}}}\n")
    replace_text(folder / "data.yaml", "".join(lines))
