"""Pictures of a held-out set with truth and detections side by side: the best, the worst, the most surprising."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anchors.boxes import xywh_to_xyxy
from detect.data.annotations import Annotations
from detect.data.images import scaled
from detect.evaluation.coco_protocol import Records
from detect.evaluation.tide import KINDS, RIGHT, Judged
from detect.inference.draw import draw
from detect.report.html import Page
from detect.types import Detections

SIDE = 380  # pixels of the longer side of each of two pictures
SHOWN = 4


def show(page: Page, store: Annotations, records: Records, judged: Judged, conf: float) -> None:
    """Add the pictures where detections from `conf` on are best and worst (F1 of the image), and the most surprising.

    Surprising is a wrong detection of a high score.
    """
    sure = (judged.scores >= conf) & judged.counts
    right = np.bincount(judged.image[sure & (judged.kind == RIGHT)], minlength=len(store))
    said = np.bincount(judged.image[sure], minlength=len(store))
    owner = np.repeat(np.arange(len(store)), np.diff(store.starts))
    there = np.bincount(owner[~store.crowd], minlength=len(store))
    f1 = 2 * right / np.maximum(1, said + there)
    some = np.flatnonzero(there > 0)
    best = some[np.lexsort((-there[some], -f1[some]))][:SHOWN]
    worst = some[np.lexsort((-there[some], f1[some]))][:SHOWN]
    odd = _surprising(judged)

    def add(title: str, images: Sequence[int], say: Sequence[str]) -> None:
        page.heading(title)
        for i, text in zip(images, say, strict=True):
            page.picture(
                pair(store, records, i, conf), f"{store.file_name(i)}: {text}; left the truth, right what is found"
            )

    def counted(images: np.ndarray) -> list[str]:
        return [f"{right[i]} of {there[i]} found, {said[i] - right[i]} wrong, F1 {f1[i]:.2f}" for i in images.tolist()]

    add("Where it went best", best.tolist(), counted(best))
    add("Where it went worst", worst.tolist(), counted(worst))
    tell = [f"{store.names[judged.labels[n]]} {judged.scores[n]:.2f} is a {KINDS[judged.kind[n]]} error" for n in odd]
    add("Most surprising", [int(judged.image[n]) for n in odd], tell)


def _surprising(judged: Judged) -> list[int]:
    """The wrong detections of the highest scores, one an image."""
    wrong = np.flatnonzero((judged.kind != RIGHT) & judged.counts)
    chosen: dict[int, int] = {}
    for n in wrong[np.argsort(-judged.scores[wrong], kind="stable")].tolist():
        chosen.setdefault(int(judged.image[n]), n)
        if len(chosen) == SHOWN:
            break
    return list(chosen.values())


def pair(store: Annotations, records: Records, index: int, conf: float) -> np.ndarray:
    """Image `index` twice, (h, w, 3): with its truth, and with the detections from `conf` on."""
    truth = store.target(index)
    known = Detections(truth.boxes, torch.ones(len(truth)), truth.labels)
    image = store.read(index)
    panels = [draw(image, known, store.names), draw(image, detections(records, store, index, conf), store.names)]
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = [scaled(panel, scale) for panel in panels]
    gap = np.full((small[0].shape[0], 6, 3), 255, np.uint8)
    return np.hstack([small[0], gap, small[1]])


def detections(records: Records, store: Annotations, index: int, conf: float) -> Detections:
    """What was found in image `index`, from `conf` on."""
    rows = np.flatnonzero(records.image_ids == store.image_ids[index])
    if not len(rows):
        return Detections.none()
    end = int(records.counts[: rows[0] + 1].sum())
    here = np.arange(end - int(records.counts[rows[0]]), end)
    here = here[records.scores[here] >= conf]
    boxes = xywh_to_xyxy(torch.from_numpy(records.boxes[here])).float()
    return Detections(boxes, torch.from_numpy(records.scores[here]).float(), torch.from_numpy(records.labels[here]))
