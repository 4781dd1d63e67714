"""The target of a grid detector as a table: what each cell and anchor should predict for an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anchors.assign import pad_targets
from anchors.assign.grid_cell import GridCell
from anchors.boxes import xyxy_to_cxcywh
from anchors.grid import priors


def grid_target(
    boxes: Tensor, labels: Tensor, size: int, cells: int, classes: int, anchors: Sequence[Sequence[float]] = ()
) -> Tensor:
    """Encode the objects of a square image, cell by cell.

    An object belongs to the cell that holds its centre, and there to the anchor whose shape has the largest IoU with
    it. Where two objects want one anchor of a cell, the more similar one has it and the other is lost.

    Args:
        boxes: (N, 4) left, top, right, bottom in pixels.
        labels: (N,) class indices.
        size: side of the image in pixels.
        cells: cells in a row and in a column.
        classes: number of classes.
        anchors: (k, 2) widths and heights in pixels. Default: one anchor a cell.

    Returns:
        (cells, cells, k, 5 + classes): objectness, the centre in the cell (x and y, 0 to 1), width and height in
        cells, and the class as a one-hot vector; zeros where there is no object.

    Reference:
        Redmon et al., You Only Look Once, 2016 (1506.02640), and with anchors Redmon and Farhadi, 2017 (1612.08242).
    """
    stride = size / cells
    sizes = [torch.tensor(anchors, dtype=torch.float32).reshape(-1, 2)] if len(anchors) else None
    grid = priors([(cells, cells)], [1], sizes and [sizes[0] / stride])
    scaled = boxes.float() / stride
    padded = pad_targets([(scaled, labels, torch.zeros(len(labels), dtype=torch.bool))])
    count = max(len(anchors), 1)
    empty = torch.zeros(1, cells * cells * count, 4)
    index = GridCell()(empty[..., :1], empty, grid, padded).index[0]
    target = torch.zeros(len(index), 5 + classes)
    taken = index >= 0
    chosen = index[taken]
    center, sides = xyxy_to_cxcywh(scaled[chosen]).chunk(2, 1)
    target[taken, :5] = torch.cat([torch.ones(len(chosen), 1), center - grid.centers[taken] + 0.5, sides], 1)
    target[taken, 5:] = torch.nn.functional.one_hot(labels[chosen].long(), classes).float()
    return target.reshape(cells, cells, count, 5 + classes)
