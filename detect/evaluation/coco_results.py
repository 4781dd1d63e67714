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
from detect.utils.names import say

_NUMBERS = {
    "obb": 5,
    "poly": 8,
    "corners": 8,
    "bbox": 4,
    "segmentation": 4,
}  # of a record; the first that it has counts
_WITH_SIDES = ("bbox", "obb", "segmentation")  # of whose numbers the third and fourth are width and height
_NO_NUMBERS = {str, bool, type(None)}
_ROUNDED = 1e-6  # what rounding may add to a score of 1
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


def read_results(
    annotations: Annotations, path: Path, key: str = "", left_out: list[str] | None = None, points: bool = False
) -> Records:
    """The detections in a COCO results file; those of an image stay in the order of the file.

    Args:
        annotations: the images and classes.
        path: the file.
        key: of the geometry in each record. Default: that of the first record.
        left_out: detections of images that are not annotated get a line here. None: they are an error.
        points: whether the records have keypoints, and boxes around these if they have no `bbox`.

    Raises:
        UserError: the file cannot be read; names its first bad record.
    """
    entries = _known(annotations, read_list(path), path, left_out)
    label_of = {category: label for label, category in enumerate(annotations.category_ids.tolist())}
    images = np.zeros(len(entries), dtype=np.int64)
    labels = np.zeros(len(entries), dtype=np.int64)
    key = key or _geometry([entry for _, entry in entries])
    masks = np.empty(len(entries), object) if key == "segmentation" else None
    numbers = np.zeros((len(entries), _NUMBERS[key] + 1))
    geometry = _WORDS.get(key, f"{key} of eight numbers")
    for n, (row, entry) in enumerate(entries):
        try:
            if type(entry["category_id"]) is bool:  # which is 0 or 1 to a dict
                raise TypeError("true or false in place of a number")
            images[n], labels[n] = entry["image_id"], label_of.get(entry["category_id"], -1)
            if masks is not None:
                if type(entry["segmentation"]) is list:
                    raise TypeError("polygons in place of an RLE; pycocotools.mask.frPyObjects makes one of them")
                masks[n] = hotcoco.mask.frPyObjects(entry["segmentation"], *entry["segmentation"]["size"])
                place = entry["bbox"] if "bbox" in entry else hotcoco.mask.to_bbox(masks[n])
            else:
                place = around(entry["keypoints"]) if points and "bbox" not in entry else entry[key]
            values = [*(np.ravel(place) if key == "corners" else place), entry["score"]]
            if len(values) != numbers.shape[1]:  # numpy would repeat a single one
                raise ValueError(f"{len(values) - 1} numbers")
            if not _NO_NUMBERS.isdisjoint(map(type, values)):  # numpy would read text
                raise TypeError("text, true, false or null in place of a number")
            numbers[n] = values
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: detection {row} needs image_id, category_id, {geometry} and score: {error!r}"
            ) from error
        if labels[n] < 0:
            raise UserError(f"{path}: detection {row} has category {entry['category_id']}, not in {annotations.path}")
    _require_numbers(path, [row for row, _ in entries], numbers, key in _WITH_SIDES)
    order = np.argsort(images, kind="stable")
    image_ids, counts = np.unique(images, return_counts=True)
    numbers = numbers[order]
    numbers[:, -1] = _confidences(path, numbers[:, -1])
    records = Records(image_ids, counts, numbers[:, :4], numbers[:, -1], labels[order])
    if masks is None:
        return records if key == "bbox" else _oriented(records, numbers[:, :-1])
    _require_sizes(annotations, path, images, masks)
    return records._replace(masks=np.array([mask["counts"] for mask in masks[order]], object))


def _require_numbers(path: Path, rows: list[int], numbers: np.ndarray, with_sides: bool) -> None:
    """Raise UserError unless the numbers (N, M) are finite and the sides not negative.

    Args:
        path: the file.
        rows: (N,) the place of each detection in it.
        numbers: geometry and score of each.
        with_sides: whether the third and fourth are width and height.
    """
    checks = [(~np.isfinite(numbers).all(1), "has a number that is not finite")]
    if with_sides:
        checks.append(((numbers[:, 2:4] < 0).any(1), "has a negative width or height: a box is x, y, width, height"))
    for bad, what in checks:
        if bad.any():
            first = int(bad.argmax())
            others = f" (and {bad.sum() - 1:,} more)" if bad.sum() > 1 else ""
            raise UserError(f"{path}: detection {rows[first]} {what}{others}: {numbers[first].tolist()}")


def _confidences(path: Path, scores: np.ndarray) -> np.ndarray:
    """The scores (N,), or in their order between 0 and 1 where some are not: logits, percentages, sums of votes.

    Says so. Average precision depends on the order alone, as in COCO's evaluator.
    """
    if not len(scores) or (scores.min() >= 0 and scores.max() <= 1 + _ROUNDED):
        return scores
    low, high = min(scores.min(), 0.0), max(scores.max(), 1.0)
    say(
        f"{path}: scores lie between {scores.min():g} and {scores.max():g}, not between 0 and 1. AP takes their order "
        f"as it is; confidences are the scores scaled to 0 to 1 (less {low:g}, over {high - low:g})"
    )
    scaled = scores / (high - low) - low / (high - low)
    distinct, place = np.unique(scores, return_inverse=True)
    if len(np.unique(scaled)) < len(distinct):  # so far apart that rounding made some equal
        return place / max(1, len(distinct) - 1)
    return scaled


def read_list(path: Path) -> list[Any]:
    """The records of a COCO results file, as they are. Raises UserError where it holds no list."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path}: a COCO results file holds a list of detections, not a {type(entries).__name__}")
    return entries


def _known(
    annotations: Annotations, entries: list[Any], path: Path, left_out: list[str] | None
) -> list[tuple[int, Any]]:
    """The records whose image is annotated, with their places in the file; those without an image_id, too.

    Raises:
        UserError: the image of a record is not annotated, and such are not left out.
    """
    known = set(annotations.image_ids.tolist())
    kept, lost = list[tuple[int, Any]](), list[tuple[int, Any]]()
    for row, entry in enumerate(entries):
        image = entry.get("image_id") if isinstance(entry, dict) else None
        there = image is None or (type(image) in (int, float) and image in known)
        (kept if there else lost).append((row, entry))
    if lost and left_out is None:
        row, entry = lost[0]
        image, others = entry["image_id"], f" (and {len(lost) - 1:,} more)" if len(lost) > 1 else ""
        raise UserError(
            f"{path}: detection {row} is of image {image!r:.60}, which is not in {annotations.path}{others}: "
            "evaluate the split that it is of, or leave such detections out with --skip-bad"
        )
    if lost and left_out is not None:
        left_out += [f"{path}: detection {row} is of image {entry['image_id']}, not annotated" for row, entry in lost]
    return kept


def around(keypoints: Any) -> list[float]:
    """The box x, y, width, height around keypoints x, y, score …, as pycocotools makes it."""
    points = np.asarray(keypoints, np.float64).reshape(-1, 3)[:, :2]
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return [left, top, right - left, bottom - top]


def read_points(annotations: Annotations, path: Path, records: Records, left_out: bool) -> np.ndarray:
    """The keypoints (N, K, 3) of the detections that `read_results` found, in their order.

    Raises:
        UserError: names the first record without K keypoints of three finite numbers.
    """
    entries = _known(annotations, read_list(path), path, [] if left_out else None)
    count, found = len(annotations.keypoint_names), np.zeros((len(entries), len(annotations.keypoint_names), 3))
    if not count:
        raise UserError(
            f"{path} has keypoints, and {annotations.path} has none: give --protocol.iou-type bbox, or data"
        )
    for n, (row, entry) in enumerate(entries):
        try:
            given = np.asarray(entry["keypoints"])
            if given.dtype.kind not in "iuf":
                raise TypeError("text, true, false or null in place of a number")
            found[n] = given.reshape(count, 3)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: detection {row} needs keypoints, x, y and score of each of {count}: {error!r}"
            ) from error
        if not np.isfinite(found[n]).all():
            raise UserError(f"{path}: detection {row} has a keypoint that is not finite")
    return found[np.argsort([entry["image_id"] for _, entry in entries], kind="stable")]


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
