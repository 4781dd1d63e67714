"""COCO results files: a list of {image_id, category_id, bbox: [x, y, w, h], score}, or with `segmentation`, an RLE, in
place of `bbox`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hotcoco.mask
import numpy as np

from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.coco_protocol import Records, Summary, summarize
from detect.evaluation.rle import image_sizes
from detect.utils.json_files import read_json


def evaluate_file(annotations: Annotations, path: Path) -> Summary:
    """Evaluate a COCO results file: masks where the first record has a `segmentation` and no `bbox`, else boxes.

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
    numbers, masks = np.zeros((len(entries), 5)), np.empty(len(entries), object) if _are_masks(entries) else None
    geometry = "bbox of four numbers" if masks is None else "segmentation, an RLE of the size of its image,"
    for row, entry in enumerate(entries):
        try:
            images[row], labels[row] = entry["image_id"], label_of.get(entry["category_id"], -1)
            if masks is not None:
                masks[row] = hotcoco.mask.frPyObjects(entry["segmentation"], *entry["segmentation"]["size"])
            x, y, w, h = entry["bbox"] if masks is None else hotcoco.mask.to_bbox(masks[row])
            numbers[row] = x, y, w, h, entry["score"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: detection {row} needs image_id, category_id, {geometry} and score: {error!r}"
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
    records = Records(image_ids, counts, numbers[order, :4], numbers[order, 4], labels[order])
    if masks is None:
        return records
    _require_sizes(annotations, path, images, masks)
    return records._replace(masks=np.array([mask["counts"] for mask in masks[order]], object))


def _are_masks(entries: list[Any]) -> bool:
    """Whether the records are read as masks: as in pycocotools, the first one decides."""
    return bool(entries) and isinstance(entries[0], dict) and "bbox" not in entries[0] and "segmentation" in entries[0]


def _require_sizes(annotations: Annotations, path: Path, image_ids: np.ndarray, masks: np.ndarray) -> None:
    """Raise UserError unless the masks (N,) have the sizes of their images (N,)."""
    sizes = dict(zip(annotations.image_ids.tolist(), image_sizes(annotations).tolist(), strict=True))
    for row, (image, mask) in enumerate(zip(image_ids.tolist(), masks, strict=True)):
        if list(mask["size"]) != sizes[image]:
            raise UserError(
                f"{path}: detection {row} has a mask of {list(mask['size'])} (height, width), but image {image} is of "
                f"{sizes[image]}: write masks in pixels of the source image"
            )
