"""Which prior is trained on which object: four assigners on one image of the toy set, and how they change."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from anchors.assign import Assigner, Assignment, GridCell, MaxIoU, PaddedTargets, SimOTA, TaskAligned, pad_targets
from anchors.grid import Priors, priors
from anchors.kmeans import kmeans
from detect.data.datasets.detection import CocoDataset
from detect.data.sources.formats import load_data
from detect.data.toy import build as build_toy
from detect.inference.palette import color_of
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.types import HeadOutput, Target
from tools.drawing import Tile, sheet

SIDE, ZOOM, IMAGE = 160, 2, 16  # of the image in pixels, its enlargement, its number in the toy set
STEPS = (0, 25, 150)  # of training, at which the assigners are asked


class Scene(NamedTuple):
    """One image with its target, the sizes of all training boxes, and the class names."""

    image: np.ndarray
    target: Target
    sizes: torch.Tensor
    names: list[str]


@cache
def scene() -> Scene:
    """An image of the toy set with objects of several sizes."""
    with tempfile.TemporaryDirectory() as folder:
        data = build_toy(Path(folder) / "toy", train=40, val=1, size=SIDE)
        annotations = load_data(str(data), "train")
        image, target = CocoDataset(annotations, SIDE).sample(IMAGE)
        return Scene(image, target, torch.tensor(annotations.boxes[:, 2:], dtype=torch.float32), annotations.names)


@cache
def outputs() -> tuple[list[HeadOutput], Any]:
    """What yolo_n predicts for the image after `STEPS` steps of training on it alone, and its head."""
    shown = scene()
    model = build(model_config("yolo_n"), ModelMetadata(shown.names, list(range(1, len(shown.names) + 1)), SIDE))
    images = torch.from_numpy(shown.image).permute(2, 0, 1)[None].expand(2, -1, -1, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            with torch.no_grad():
                found.append(model.train()(images))  # batch statistics: the running ones are not there yet
        terms = model.loss(model(images), [shown.target] * 2).values()
        optimizer.zero_grad()
        torch.stack([term.total / term.count.clamp(min=1) for term in terms]).sum().backward()
        optimizer.step()
    return found, model.head


def padded() -> PaddedTargets:
    """The target as assigners take it."""
    target = scene().target
    return pad_targets([(target.boxes, target.labels, target.crowd)])


def assigned(assigner: Assigner, at: int) -> tuple[Assignment, Priors]:
    """The assignment by the predictions at one of `STEPS`, and the priors."""
    found, head = outputs()
    raw, prior = found[at], found[at].priors
    scores, boxes = head.scores(raw)[:1], head.boxes(raw)[:1]
    if isinstance(assigner, MaxIoU):  # it wants anchor boxes: nine of K-means, three for each level
        anchors = kmeans(scene().sizes, 9)
        shapes = [(SIDE // stride, SIDE // stride) for stride in head.strides]
        prior = priors(shapes, head.strides, list(anchors.split(3)))
        assert prior.boxes is not None
        scores, boxes = scores.new_zeros(1, len(prior.centers), scores.shape[2]), prior.boxes[None]
    return assigner(scores, boxes, prior, padded()), prior


def picture(assignment: Assignment, prior: Priors) -> np.ndarray:
    """The image with its boxes, and a dot for each positive prior: as large as its stride, as solid as its weight."""
    shown = scene()
    canvas = cv2.resize(shown.image // 2 + 110, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    for i, (x1, y1, x2, y2) in enumerate((shown.target.boxes * ZOOM).round().int().tolist()):
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), color_of(i), 2)
    for a in torch.where(assignment.index[0] >= 0)[0].tolist():
        x, y = (prior.centers[a] * ZOOM).round().int().tolist()
        radius, color = 2 + int(prior.strides[a]) // 4, color_of(int(assignment.index[0, a]))
        filled = cv2.circle(canvas.copy(), (x, y), radius, color, -1, cv2.LINE_AA)
        canvas[:] = cv2.addWeighted(filled, share := float(assignment.weight[0, a]), canvas, 1 - share, 0)
        cv2.circle(canvas, (x, y), radius, color, 1, cv2.LINE_AA)
    return canvas


def draw() -> dict[str, np.ndarray]:
    """The four assigners, and the two that look at predictions while the network learns."""
    last = len(STEPS) - 1
    methods: dict[str, Assigner] = {"grid_cell": GridCell(), "max_iou": MaxIoU()}
    methods |= {"task_aligned": TaskAligned(), "sim_ota": SimOTA()}
    tiles: list[Tile] = []
    for name, assigner in methods.items():
        assignment, prior = assigned(assigner, last)
        each = [int((assignment.index == i).sum()) for i in range(len(scene().target))]
        print(f"{name}: {sum(each)} positive of {len(prior.centers)} priors; by object {each}")
        tiles.append((f"{name}: {sum(each)} positive", picture(assignment, prior)))
    later: list[Tile] = []
    for name in ("task_aligned", "sim_ota"):
        for i, step in enumerate(STEPS):
            assignment, prior = assigned(methods[name], i)
            count = int((assignment.index >= 0).sum())
            later.append((f"{name}, step {step}: {count}", picture(assignment, prior)))
    return {"assignment": sheet(tiles, 2), "assignment_learning": sheet(later, 3)}
