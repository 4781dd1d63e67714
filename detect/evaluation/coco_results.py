"""COCO results files: a list of {image_id, category_id, bbox: [x, y, w, h], score}."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.coco_protocol import Records, Summary, summarize
from detect.utils.json_files import read_json


def evaluate_file(annotations: Annotations, path: Path) -> Summary:
    """Evaluate a COCO results file.

    Raises:
        UserError: the file cannot be read; names its first bad record.
    """
    return summarize(annotations, read_results(annotations, path))


def read_results(annotations: Annotations, path: Path) -> Records:
    """The detections in a COCO results file; those of an image stay in the order of the file."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path}: a COCO results file holds a list of detections, not a {type(entries).__name__}")
    label_of = {category: label for label, category in enumerate(annotations.category_ids.tolist())}
    known = set(annotations.image_ids.tolist())
    images = np.zeros(len(entries), dtype=np.int64)
    labels = np.zeros(len(entries), dtype=np.int64)
    numbers = np.zeros((len(entries), 5))
    for row, entry in enumerate(entries):
        try:
            images[row], labels[row] = entry["image_id"], label_of.get(entry["category_id"], -1)
            x, y, w, h = entry["bbox"]
            numbers[row] = x, y, w, h, entry["score"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: detection {row} needs image_id, category_id, bbox of four numbers and score: {error!r}"
            ) from error
        if entry["image_id"] not in known:
            raise UserError(
                f"{path}: detection {row} is of image {entry['image_id']}, which is not in {annotations.path}"
            )
        if labels[row] < 0:
            raise UserError(f"{path}: detection {row} has category {entry['category_id']}, not in {annotations.path}")
        if not np.isfinite(numbers[row]).all():
            raise UserError(f"{path}: detection {row} has a number that is not finite")
    order = np.argsort(images, kind="stable")
    image_ids, counts = np.unique(images, return_counts=True)
    return Records(image_ids, counts, numbers[order, :4], numbers[order, 4], labels[order])
