"""Writes a worked example of the first YOLO's grid: one image, its target cell by cell, and the decoding of a box.

python tools/cells.py [--index 0] [--imgsz 96] [--out docs]    # explanations/yolo_grid.md and assets/yolo_grid.png
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from anchors.assign import pad_targets
from detect.data.datasets.detection import CocoDataset
from detect.data.image_writer import save_image
from detect.data.sources.formats import load_data
from detect.data.toy import build as build_toy
from detect.errors import quiet_pipe
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.yolo import Yolo
from detect.types import Target
from detect.utils.atomic_io import replace_text
from tools.look import annotate

ZOOM = 4


class Cells(NamedTuple):
    """The target of one image: p (R, C), box (R, C, 4) x, y, w, h in cells, label (R, C), -1 where p = 0."""

    p: np.ndarray
    box: np.ndarray
    label: np.ndarray


def cells(model: Yolo, target: Target, size: int) -> Cells:
    """Compute the target of each cell in the loss of the grid model; `size` is the side of the image in pixels."""
    raw = model.eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    targets = pad_targets([(target.boxes, target.labels, target.crowd)])
    index = model.assigner(model.head.scores(raw), model.head.boxes(raw), raw.priors, targets).index[0]
    box, label = np.zeros((len(index), 4)), np.full(len(index), -1)
    for a in torch.where(index >= 0)[0].tolist():
        prediction = raw.at((torch.tensor([0]), torch.tensor([a])))
        target_box = target.boxes[index[a]][None]
        stride = prediction.priors.strides
        code = model.head.encode(target_box, prediction.priors.centers, stride, stride[:, None].expand(-1, 2))[0]
        box[a] = [*code[:2].sigmoid().tolist(), *code[2:].exp().tolist()]
        label[a] = int(target.labels[index[a]])
    side = round(len(index) ** 0.5)
    return Cells((label >= 0).astype(int).reshape(side, side), box.reshape(side, side, 4), label.reshape(side, side))


def plot(image: np.ndarray, target: Target, names: Sequence[str], stride: int) -> np.ndarray:
    """Draw the image with its boxes, the grid, and a dot at the centre of each object."""
    drawn = annotate(image, target, names, ZOOM)
    for line in range(0, len(drawn) + 1, stride * ZOOM):
        drawn[:, min(line, len(drawn) - 1)] = drawn[min(line, len(drawn) - 1)] = 255
    for x1, y1, x2, y2 in (target.boxes * ZOOM).tolist():
        cv2.circle(drawn, (round((x1 + x2) / 2), round((y1 + y2) / 2)), 4, (255, 0, 0), -1)
    return drawn


def page(target: Target, grid: Cells, names: Sequence[str], stride: int) -> str:
    """The worked page as Markdown."""
    side, classes = len(grid.p), len(names)
    count = side * side * (5 + classes)
    lines = [
        "# The grid of the first YOLO, worked through",
        "",
        "```sh\npython tools/cells.py\n```",
        "",
        f"`yolo_grid` divides an image of {side * stride} x {side * stride} pixels into {side} x {side} cells of "
        f"{stride} pixels. Each cell predicts p (whether the centre of an object lies in it), x and y (where in the "
        "cell the centre lies, 0 to 1), w and h (the size of the object in cells, so possibly above 1) and "
        f"{classes} classes: {side} x {side} x (5 + {classes}) = {count:,} numbers an image. Only the cell that holds "
        "the centre of an object is assigned to it.",
        "",
        "![the image, its grid, boxes and their centres](../assets/yolo_grid.png)",
        "",
        "## The ground truth",
        "| object | left | top | right | bottom | centre | cell (row, column) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for label, (x1, y1, x2, y2) in zip(target.labels.tolist(), target.boxes.tolist(), strict=True):
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        corners = " | ".join(f"{v:g}" for v in (x1, y1, x2, y2))
        lines.append(f"| {names[label]} | {corners} | ({x:g}, {y:g}) | ({int(y // stride)}, {int(x // stride)}) |")
    lines += ["", "## p of every cell", "|   |" + "".join(f" {c} |" for c in range(side)), "|" + " --- |" * (side + 1)]
    lines += [f"| **{r}** |" + "".join(f" {p} |" for p in row) for r, row in enumerate(grid.p.tolist())]
    lines += [
        "",
        "## The cells with p = 1",
        "| cell (row, column) | p | x | y | w | h | classes |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r, c in zip(*np.nonzero(grid.p), strict=True):
        numbers = " | ".join(f"{v:.4f}" for v in grid.box[r, c])
        hot = " ".join(str(int(label == grid.label[r, c])) for label in range(classes))
        lines.append(f"| ({r}, {c}) | 1 | {numbers} | {hot} |")
    r, c = (int(v) for v in np.argwhere(grid.p)[0])
    x, y, w, h = grid.box[r, c].tolist()
    cx, cy = (c + x) * stride, (r + y) * stride
    lines += [
        "",
        "All numbers of other cells are 0. The box and class predictions of a cell with p = 0 do not count in "
        "the loss.",
        "",
        "## And back",
        f"Decoding reverses these steps. For cell ({r}, {c}), the centre lies at (({c} + {x:.4f}) x {stride}, "
        f"({r} + {y:.4f}) x {stride}) = ({cx:.2f}, {cy:.2f}), its sides are {w:.4f} x {stride} = {w * stride:.2f} and "
        f"{h:.4f} x {stride} = {h * stride:.2f}, so its borders are {cx - w * stride / 2:.2f}, "
        f"{cy - h * stride / 2:.2f}, {cx + w * stride / 2:.2f} and {cy + h * stride / 2:.2f}.",
        "",
        "The network predicts x and y through a sigmoid and w and h through exp, so that any output is a valid "
        "box. The score of a class is p times that class's own probability (YOLO v3; v1 had a softmax). "
        "`tests/detect/test_cells.py` decodes a prediction by hand, number by number, and checks the target in plain "
        "Python.",
        "",
        "If the centres of two objects share a cell, the target holds only one of them. Several anchors a cell "
        "(`--model.anchors-per-level 5`) and finer feature maps (`yolo_anchor_n`, `yolo_n`) avoid that.",
    ]
    return "\n".join(lines) + "\n"


def grid_model(names: Sequence[str], size: int) -> Yolo:
    """Build `yolo_grid` with random weights for these classes."""

    model = build(model_config("yolo_grid"), ModelMetadata(list(names), list(range(1, len(names) + 1)), size))
    assert isinstance(model, Yolo)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=int, default=0, help="image of the toy set's val split; default: 0")
    parser.add_argument("--imgsz", type=int, default=96, help="image size in pixels; default: 96")
    parser.add_argument("--out", default="docs", help="folder of the documentation; default: docs")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = build_toy(Path(folder) / "toy", train=1, val=given.index + 1, size=given.imgsz)
        annotations = load_data(str(data), "val")
        image, target = CocoDataset(annotations, given.imgsz).sample(given.index)
    model = grid_model(annotations.names, given.imgsz)
    out, stride = Path(given.out), model.head.strides[0]
    for name in ("assets", "explanations"):
        (out / name).mkdir(parents=True, exist_ok=True)
    save_image(out / "assets" / "yolo_grid.png", plot(image, target, annotations.names, stride))
    text = page(target, cells(model, target, given.imgsz), annotations.names, stride)
    replace_text(out / "explanations" / "yolo_grid.md", text)
    return 0


if __name__ == "__main__":
    with quiet_pipe():
        sys.exit(main())
