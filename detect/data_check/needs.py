"""What a dataset asks for: the image size, and what its small, crowded, overlapping or rare objects need.

Axes: I images, N objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.training.auto import Data, Machine, Network, image_size
from detect.training.diagnosis import SIZE_RATIO
from detect.types import Postprocess
from detect.utils.names import counted

STRIDE = 8  # pixels: the finest feature map of the usual detectors
USUAL = Network(STRIDE, coarsest=32, size=640, from_boxes=True, memory=0, batch=16, pretrained=True)
COUNTED = 100  # detections of an image that AP counts
SAMPLE = 1000  # images whose boxes are compared with one another
CROWDED = 1000  # objects of an image that are compared at most
FEW = 30  # objects of a class below which its AP is mostly chance
BRIGHTER = 25  # grey levels between the medians of two splits: worth a word

Facts = Mapping[str, Mapping[str, Any]]


def needs(splits: Facts, annotations: Mapping[str, Annotations], size: int) -> list[str]:
    """Return what the dataset asks for, one sentence each; those on boxes only where there are boxes.

    Args:
        splits: the statistics of each split, see `facts`.
        annotations: the annotations of each split.
        size: image size in pixels that the dataset is checked for.
    """
    first = next(iter(splits), "")
    if not first or splits[first]["samples"] != "images":
        return []
    rules: list[Callable[..., Iterator[str]]] = [_classes, _splits]
    seen = splits[first]["room"].any()  # else no image can be used
    if not splits[first]["whole_images"] and len(splits[first]["sides"]) and seen:
        rules = [_image_size, _small, _crowded, _overlapping, *rules]
    return [line for rule in rules for line in rule(splits, annotations, size, first)]


def _image_size(splits: Facts, annotations: Mapping[str, Annotations], size: int, first: str) -> Iterator[str]:
    sides, room = splits[first]["sides"], splits[first]["room"]
    shares = np.sqrt(sides.prod(axis=1)).clip(max=size) / size
    data = Data(splits[first]["images"], room[room[:, 0] > 0].max(axis=1), shares, annotations[first].names)
    choices = {device: image_size(data, Machine(device, 0, 0), USUAL) for device in ("CPU", "GPU")}
    for device, (value, why) in choices.items():
        if device == "CPU" or value != choices["CPU"].value:
            yield f"Image size for a {device}: --imgsz {value}; {why}."


def _small(splits: Facts, annotations: Mapping[str, Annotations], size: int, first: str) -> Iterator[str]:
    sides = np.sqrt(splits[first]["sides"].prod(axis=1))
    share = float((sides < STRIDE).mean())
    if share >= 0.01:
        own = int(np.median(splits[first]["room"].max(axis=1)))
        remedy = "a larger --imgsz, or --tile for predict and evaluate, shows them larger"
        yield (
            f"Small objects: at --imgsz {size}, {share:.0%} of the boxes are below {STRIDE} px, one cell of the finest "
            f"feature map, and {(sides < 2 * STRIDE).mean():.0%} below {2 * STRIDE}: "
            f"{remedy if own > size else f'the images have only {own} px, so photos of more pixels would help'}."
        )


def _crowded(splits: Facts, annotations: Mapping[str, Annotations], size: int, first: str) -> Iterator[str]:
    counts = np.concatenate([facts["per_image"] for facts in splits.values()])
    if (counts > COUNTED).any():
        yield (
            f"Crowded images: {counted(int((counts > COUNTED).sum()), 'image')} of {len(counts):,} have more than "
            f"{COUNTED} objects, up to {counts.max():,}; COCO's AP counts {COUNTED} detections an image, so recall "
            "cannot be complete there."
        )


def _overlapping(splits: Facts, annotations: Mapping[str, Annotations], size: int, first: str) -> Iterator[str]:
    limit = Postprocess().iou
    lost, total = hidden(annotations[first], limit)
    if total and lost / total >= 0.005:
        yield (
            f"Overlapping objects: {lost / total:.1%} of the objects overlap another of their class by an IoU above "
            f"{limit:g}, where NMS keeps one of the two: a higher --iou keeps both."
        )


def hidden(annotations: Annotations, limit: float) -> tuple[int, int]:
    """Return how many objects NMS would suppress if all were detected exactly, and of how many.

    Args:
        annotations: the split, of which up to `SAMPLE` images are looked at, spread evenly.
        limit: the IoU threshold.
    """
    lost = total = 0
    learned = objects(annotations)
    for i in np.unique(np.linspace(0, len(annotations) - 1, min(SAMPLE, len(annotations))).astype(int)).tolist():
        rows = np.arange(annotations.starts[i], annotations.starts[i + 1])
        rows = rows[learned[rows]][:CROWDED]
        total += len(rows)
        if len(rows) > 1:
            boxes = xywh_to_xyxy(torch.from_numpy(annotations.boxes[rows]))
            labels = annotations.labels[rows]
            same = (iou(boxes, boxes).numpy() > limit) & (labels[:, None] == labels)
            lost += int(np.tril(same, -1).any(axis=1).sum())
    return lost, total


def _classes(splits: Facts, annotations: Mapping[str, Annotations], size: int, first: str) -> Iterator[str]:
    counts = {name: count for name, count in splits[first]["per_class"].items() if count}
    few = [name for name, count in counts.items() if count < FEW]
    if len(counts) > 1 and few:
        named = ", ".join(few[:6]) + " …" * (len(few) > 6)
        yield (
            f"Rare classes: fewer than {FEW} objects in {first} for {len(few)} of {len(counts)} classes ({named}): "
            "more images of them help more than more epochs."
        )


def _splits(splits: Facts, annotations: Mapping[str, Annotations], size: int, first: str) -> Iterator[str]:
    for name, facts in splits.items():
        sides = [np.sqrt(one["sides"].prod(axis=1)) for one in (splits[first], facts)]
        if name != first and min(map(len, sides)) >= FEW and not facts["whole_images"]:
            a, b = (float(np.median(one)) for one in sides)
            if max(a, b) > SIZE_RATIO * min(a, b):
                yield f"Unlike splits: the median object has {a:.0f} px in {first} and {b:.0f} px in {name}, at {size}."
        levels = [one["brightness"] for one in (splits[first], facts)]
        a, b = (float(np.median(one)) if len(one) else 0.0 for one in levels)
        if all(map(len, levels)) and abs(a - b) > BRIGHTER:
            yield f"Unlike splits: the median image has a mean grey level of {a:.0f} in {first} and {b:.0f} in {name}."
