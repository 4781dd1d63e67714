"""Images with annotations and detections side by side: the best, the worst, the most surprising ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anchors.boxes import xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.images import scaled
from detect.evaluation.coco_protocol import Records
from detect.evaluation.tide import KINDS, RIGHT, ErrorAnalysis
from detect.inference.draw import draw
from detect.report.html import Page
from detect.types import Detections

SIDE = 380  # pixels of the longer side of each of the two images
SHOWN = 4  # images of each sort


def show(page: Page, annotations: Annotations, records: Records, errors: ErrorAnalysis, conf: float) -> None:
    """Add the images with the highest and lowest F1, and those with the most confident wrong detections.

    Args:
        page: the report.
        annotations: the split that was evaluated.
        records: all detections in it.
        errors: what is right and wrong about them.
        conf: score from which detections count.
    """
    confident = (errors.scores >= conf) & errors.counts
    right = np.bincount(errors.image[confident & (errors.kind == RIGHT)], minlength=len(annotations))
    predicted = np.bincount(errors.image[confident], minlength=len(annotations))
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    annotated = np.bincount(owner[~annotations.crowd], minlength=len(annotations))
    f1 = 2 * right / np.maximum(1, predicted + annotated)
    some = np.flatnonzero(annotated > 0)
    best = some[np.lexsort((-annotated[some], -f1[some]))][:SHOWN]
    worst = some[np.lexsort((-annotated[some], f1[some]))][:SHOWN]
    surprising = _surprising(errors)

    def add(title: str, images: Sequence[int], captions: Sequence[str]) -> None:
        page.heading(title)
        for i, text in zip(images, captions, strict=True):
            page.image(
                side_by_side(annotations, records, i, conf),
                f"{annotations.file_name(i)}: {text}; left: annotations, right: detections",
            )

    def counted(images: np.ndarray) -> list[str]:
        return [
            f"{right[i]} of {annotated[i]} found, {predicted[i] - right[i]} false positives, F1 {f1[i]:.2f}"
            for i in images.tolist()
        ]

    add("Best images", best.tolist(), counted(best))
    add("Worst images", worst.tolist(), counted(worst))
    captions = [
        f"{annotations.names[errors.labels[n]]} {errors.scores[n]:.2f} is a {KINDS[errors.kind[n]]} error"
        for n in surprising
    ]
    add("Most surprising errors", [int(errors.image[n]) for n in surprising], captions)


def _surprising(errors: ErrorAnalysis) -> list[int]:
    """Indices of the wrong detections with the highest scores, one an image."""
    wrong = np.flatnonzero((errors.kind != RIGHT) & errors.counts)
    chosen: dict[int, int] = {}
    for n in wrong[np.argsort(-errors.scores[wrong], kind="stable")].tolist():
        chosen.setdefault(int(errors.image[n]), n)
        if len(chosen) == SHOWN:
            break
    return list(chosen.values())


def side_by_side(annotations: Annotations, records: Records, index: int, conf: float) -> np.ndarray:
    """Image `index` twice, (h, w, 3): with its annotations, and with the detections that score at least `conf`."""
    target = annotations.target(index)
    known = Detections(target.boxes, torch.ones(len(target)), target.labels)
    image = annotations.read(index)
    panels = [
        draw(image, known, annotations.names),
        draw(image, detections(records, annotations, index, conf), annotations.names),
    ]
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = [scaled(panel, scale) for panel in panels]
    gap = np.full((small[0].shape[0], 6, 3), 255, np.uint8)
    return np.hstack([small[0], gap, small[1]])


def detections(records: Records, annotations: Annotations, index: int, conf: float) -> Detections:
    """The detections in image `index` that score at least `conf`."""
    rows = np.flatnonzero(records.image_ids == annotations.image_ids[index])
    if not len(rows):
        return Detections.none()
    end = int(records.counts[: rows[0] + 1].sum())
    here = np.arange(end - int(records.counts[rows[0]]), end)
    here = here[records.scores[here] >= conf]
    boxes = xywh_to_xyxy(torch.from_numpy(records.boxes[here])).float()
    return Detections(boxes, torch.from_numpy(records.scores[here]).float(), torch.from_numpy(records.labels[here]))
