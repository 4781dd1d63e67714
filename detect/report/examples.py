"""Images with annotations and detections side by side: the best, the worst, the most surprising ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from anchors.boxes import xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.images import scaled
from detect.evaluation.annotated_masks import annotated_masks, image_sizes
from detect.evaluation.coco_protocol import Records
from detect.evaluation.image_ranking import best_images, count_images, surprising_errors, worst_images
from detect.evaluation.oriented_boxes import annotated_oriented
from detect.evaluation.tide import KINDS, ErrorAnalysis
from detect.inference.draw import draw
from detect.masks import RleMasks
from detect.report.html import Page
from detect.types import Detections

SIDE = 440  # pixels of the longer side of each of the two images
WIDTH = 340  # of a thumbnail of both
SIDES = "Left: annotations; right: detections."


def show(page: Page, annotations: Annotations, records: Records, errors: ErrorAnalysis, conf: float, most: int) -> None:
    """Add the images with the lowest and highest F1, and those with the most confident wrong detections.

    Args:
        page: the page.
        annotations: the split that was evaluated.
        records: all detections in it.
        errors: what is right and wrong about them.
        conf: score from which detections count.
        most: images of each sort.
    """
    counts = count_images(annotations, errors, conf)

    def add(title: str, images: Sequence[int], captions: Sequence[str]) -> None:
        panels = [side_by_side(annotations, records, i, conf) for i in images]
        texts = [f"{annotations.file_name(i)}: {text}" for i, text in zip(images, captions, strict=True)]
        add_examples(page, title, list(zip(panels, texts, strict=True)), SIDES)

    def counted(images: np.ndarray) -> list[str]:
        return [
            f"{counts.right[i]} of {counts.annotated[i]} found, {counts.predicted[i] - counts.right[i]} false "
            f"positives, F1 {counts.f1[i]:.2f}"
            for i in images.tolist()
        ]

    for title, images in (("Worst images", worst_images(counts, most)), ("Best images", best_images(counts, most))):
        add(title, images.tolist(), counted(images))
    surprising = surprising_errors(errors, most)
    captions = [
        f"{annotations.names[errors.labels[n]]} {errors.scores[n]:.2f} is a {KINDS[errors.kind[n]]} error"
        for n in surprising
    ]
    add("Most surprising errors", [int(errors.image[n]) for n in surprising], captions)


def add_examples(
    page: Page, title: str, images: Sequence[tuple[np.ndarray, str]], about: str, width: int = WIDTH
) -> None:
    """Add a section of images with captions; nothing where there are none.

    Args:
        page: the page.
        title: that of the section.
        images: images (H, W, 3) uint8 RGB, each with its caption.
        about: what they show.
        width: of a thumbnail, in pixels.
    """
    if images:
        page.heading(title)
        page.text(about)
        page.gallery(images, width)


def side_by_side(annotations: Annotations, records: Records, index: int, conf: float) -> np.ndarray:
    """Image `index` twice, (h, w, 3): with its annotations, and with the detections that score at least `conf`."""
    image = annotations.read(index)
    known, found = annotated(annotations, records, index), detections(records, annotations, index, conf)
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = scaled(image, scale)  # before drawing, so that labels stay legible
    panels = [
        draw(small, resized(one, scale, small.shape[:2]), annotations.names, hide_conf=one is known)
        for one in (known, found)
    ]
    gap = np.full((small.shape[0], 6, 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1]])


def annotated(annotations: Annotations, records: Records | Detections, index: int) -> Detections:
    """The objects of image `index` as detections, with masks or oriented boxes where `records` has them."""
    target = annotations.target(index)
    here = slice(int(annotations.starts[index]), int(annotations.starts[index + 1]))
    known = Detections(target.boxes, torch.ones(len(target)), target.labels)
    if records.masks is not None:
        counts = [mask["counts"] for mask in annotated_masks(annotations)[here]]
        known = replace(known, masks=_masks(annotations, index, counts))
    if records.oriented is not None:
        known = replace(known, oriented=torch.from_numpy(annotated_oriented(annotations)[here]).float())
    return known


def detections(records: Records, annotations: Annotations, index: int, conf: float) -> Detections:
    """The detections in image `index` that score at least `conf`."""
    rows = np.flatnonzero(records.image_ids == annotations.image_ids[index])
    if not len(rows):
        return Detections.none()
    end = int(records.counts[: rows[0] + 1].sum())
    here = np.arange(end - int(records.counts[rows[0]]), end)
    here = here[records.scores[here] >= conf]
    boxes = xywh_to_xyxy(torch.from_numpy(records.boxes[here])).float()
    scores, labels = torch.from_numpy(records.scores[here]).float(), torch.from_numpy(records.labels[here])
    masks = None if records.masks is None else _masks(annotations, index, records.masks[here].tolist())
    oriented = None if records.oriented is None else torch.from_numpy(records.oriented[here]).float()
    return Detections(boxes, scores, labels, masks=masks, oriented=oriented)


def _masks(annotations: Annotations, index: int, counts: Sequence[bytes]) -> RleMasks:
    height, width = image_sizes(annotations)[index].tolist()
    return RleMasks((height, width), list(counts))


def resized(found: Detections, scale: float, size: tuple[int, ...]) -> Detections:
    """Detections in an image that was scaled to `size` (h, w)."""
    height, width = size
    masks = found.masks
    if isinstance(masks, RleMasks) and masks.size != (height, width):
        dense = (masks.decode(i).astype(np.uint8) for i in range(len(masks)))
        small = (cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA).astype(bool) for one in dense)
        masks = RleMasks.of_windows((height, width), ((0, 0, one) for one in small))
    turned = None if found.oriented is None else found.oriented * torch.tensor([*[scale] * 4, 1.0])
    return replace(found, boxes=found.boxes * scale, masks=masks, oriented=turned)
