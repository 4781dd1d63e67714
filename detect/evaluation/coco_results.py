"""COCO results files: a list of {image_id, category_id, bbox: [x, y, w, h], score}.

With `segmentation`, an RLE, in place of `bbox` they are masks; with `obb`: [cx, cy, w, h, angle], or with four corners
as `poly` (eight numbers) or `corners` (four pairs), they are oriented boxes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hotcoco.mask
import numpy as np
import torch

from anchors.boxes import xyxy_to_xywh
from anchors.oriented import canonical, corners_to_oriented, oriented_bounds
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.annotated_masks import image_sizes
from detect.evaluation.coco_protocol import Records, Summary, summarize
from detect.utils.json_files import read_json

_NUMBERS = {
    "obb": 5,
    "poly": 8,
    "corners": 8,
    "bbox": 4,
    "segmentation": 4,
}  # of a record; the first that it has counts
_WORDS = {
    "bbox": "bbox of four numbers",
    "obb": "obb of five numbers",
    "segmentation": "segmentation, an RLE of the size of its image,",
}


def evaluate_file(annotations: Annotations, path: Path) -> Summary:
    """Evaluate a COCO results file: masks, oriented boxes or boxes, whichever its first record has.

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
    key = _geometry(entries)
    masks = np.empty(len(entries), object) if key == "segmentation" else None
    numbers = np.zeros((len(entries), _NUMBERS[key] + 1))
    geometry = _WORDS.get(key, f"{key} of eight numbers")
    for row, entry in enumerate(entries):
        try:
            images[row], labels[row] = entry["image_id"], label_of.get(entry["category_id"], -1)
            if masks is not None:
                masks[row] = hotcoco.mask.frPyObjects(entry["segmentation"], *entry["segmentation"]["size"])
            place = entry[key] if masks is None else hotcoco.mask.to_bbox(masks[row])
            values = [*(np.ravel(place) if key == "corners" else place), entry["score"]]
            if len(values) != numbers.shape[1]:  # numpy would repeat a single one
                raise ValueError(f"{len(values) - 1} numbers")
            numbers[row] = values
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
    numbers = numbers[order]
    records = Records(image_ids, counts, numbers[:, :4], numbers[:, -1], labels[order])
    if masks is None:
        return records if key == "bbox" else _oriented(records, numbers[:, :-1])
    _require_sizes(annotations, path, images, masks)
    return records._replace(masks=np.array([mask["counts"] for mask in masks[order]], object))


def _geometry(entries: list[Any]) -> str:
    """The key whose value is measured: as in pycocotools, the first record decides."""
    first = entries[0] if entries and isinstance(entries[0], dict) else {}
    masks = "segmentation" in first and "bbox" not in first
    return next((key for key in _NUMBERS if key in first), "bbox") if not masks else "segmentation"


def _oriented(records: Records, values: np.ndarray) -> Records:
    """The records with oriented boxes, of which `values` are the five numbers (N, 5) or the corners (N, 8)."""
    numbers = torch.from_numpy(values)
    boxes = canonical(numbers) if values.shape[1] == 5 else corners_to_oriented(numbers.reshape(-1, 4, 2))
    return records._replace(boxes=xyxy_to_xywh(oriented_bounds(boxes)).numpy(), oriented=boxes.numpy())


def _require_sizes(annotations: Annotations, path: Path, image_ids: np.ndarray, masks: np.ndarray) -> None:
    """Raise UserError unless the masks (N,) have the sizes of their images (N,)."""
    sizes = dict(zip(annotations.image_ids.tolist(), image_sizes(annotations).tolist(), strict=True))
    for row, (image, mask) in enumerate(zip(image_ids.tolist(), masks, strict=True)):
        if list(mask["size"]) != sizes[image]:
            raise UserError(
                f"{path}: detection {row} has a mask of {list(mask['size'])} (height, width), but image {image} is of "
                f"{sizes[image]}: write masks in pixels of the source image"
            )
