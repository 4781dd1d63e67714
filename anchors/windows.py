"""Sliding windows: their positions, their fit to boxes, and their assignment to objects.

Axes: B batch, A windows, M objects padded over a batch, N objects.
"""

import torch
from torch import Tensor

from anchors.assign.targets import IGNORE, NONE, PaddedTargets, ignore_crowd
from anchors.boxes import iou_aligned
from anchors.grid import Priors


def slid(size: tuple[int, int], side: int, step: int, device: torch.device | str | None = None) -> Tensor:
    """Return the square windows that slide over an image.

    A remainder of less than a step at the right and bottom edge is not covered.

    Args:
        size: image size (height, width) in pixels.
        side: side of a window in pixels.
        step: distance between neighbouring windows in pixels.
        device: device of the result.

    Returns:
        Windows (A, 4) xyxy, row by row. A is 0 if no window fits into the image.
    """
    y, x = (torch.arange(0, n - side + 1, step, device=device) if n >= side else torch.zeros(0) for n in size)
    corners = torch.stack(torch.meshgrid(x.to(y), y, indexing="xy"), -1).reshape(-1, 2).to(device, torch.float32)
    return torch.cat((corners, corners + side), -1)


def square_iou(boxes: Tensor, windows: Tensor) -> Tensor:
    """Return how well each window fits each box, from 0 to 1.

    Windows are square and most boxes are not. The ideal window for a box is a square that contains the box and whose
    side is the longer side of the box. The fit is the IoU of the window with the nearest such square.

    Args:
        boxes: boxes (..., N, 4) xyxy.
        windows: square windows (A, 4) xyxy.

    Returns:
        (..., N, A).
    """
    low, high = boxes[..., None, :].chunk(2, -1)
    half = (high - low).amax(-1, keepdim=True) / 2
    start, end = windows.chunk(2, -1)
    center = torch.minimum(torch.maximum((start + end) / 2, high - half), low + half)
    return iou_aligned(torch.cat((center - half, center + half), -1), windows)


def assign(priors: Priors, targets: PaddedTargets, positive: float, negative: float) -> Tensor:
    """Assign each window to the object that it fits best.

    A window is positive if its best fit is at least `positive`, negative if it is below `negative`, and ignored in
    between. Negative windows whose centre lies in a crowd region are ignored too.

    Args:
        priors: windows as boxes (A, 4).
        targets: target boxes of the batch.
        positive: minimum fit (`square_iou`) of a positive window.
        negative: fit below which a window is negative.

    Returns:
        Index (B, A) of the assigned object; -1 for negative, -2 for ignored.

    Raises:
        ValueError: the priors have no boxes.
    """
    if priors.boxes is None:
        raise ValueError("windows are boxes, and these priors have none")
    counts = targets.valid & ~targets.crowd
    if not counts.shape[1]:
        return torch.full((len(counts), len(priors.boxes)), NONE, device=counts.device)
    fit, index = (square_iou(targets.boxes, priors.boxes) * counts[..., None]).max(1)
    index = torch.where(fit >= positive, index, torch.where(fit < negative, NONE, IGNORE))
    return ignore_crowd(index, priors, targets)
