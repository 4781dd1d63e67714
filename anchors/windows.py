"""Sliding windows: their positions, how well one fits an object, and which object each is assigned to.

Axes: B batch, A windows, M objects padded over a batch, N objects.
"""

import torch
from torch import Tensor

from anchors.assign.truth import IGNORE, NONE, PaddedTargets, ignore_crowd
from anchors.boxes import iou_aligned
from anchors.grid import Priors


def slid(size: tuple[int, int], side: int, step: int, device: torch.device | str | None = None) -> Tensor:
    """The square windows (A, 4) xyxy of `side` pixels, `step` apart, within an image of `size` (h, w), row by row.

    A rest at the right and at the bottom, less than a step, is not covered. A is 0 if none fits.
    """
    y, x = (torch.arange(0, n - side + 1, step, device=device) if n >= side else torch.zeros(0) for n in size)
    corners = torch.stack(torch.meshgrid(x.to(y), y, indexing="xy"), -1).reshape(-1, 2).to(device, torch.float32)
    return torch.cat((corners, corners + side), -1)


def square_iou(boxes: Tensor, windows: Tensor) -> Tensor:
    """How well each window (A, 4) fits each box (..., N, 4), 0..1: (..., N, A).

    A window is square and most boxes are not. A square as long as the longer side of a box, that contains the box,
    shows it as well as any window can; the fit is the IoU of the window and the nearest such square.
    """
    low, high = boxes[..., None, :].chunk(2, -1)
    half = (high - low).amax(-1, keepdim=True) / 2
    start, end = windows.chunk(2, -1)
    center = torch.minimum(torch.maximum((start + end) / 2, high - half), low + half)
    return iou_aligned(torch.cat((center - half, center + half), -1), windows)


def assign(priors: Priors, truth: PaddedTargets, positive: float, negative: float) -> Tensor:
    """The object (B, A) that each window is assigned to: -1 none, -2 ignored.

    It is the object that the window fits best, if at least by `positive`; a window whose best fit is below `negative`
    has none. In between it is ignored, and so are unassigned windows whose centre lies in a crowd region.

    Raises:
        ValueError: the priors have no boxes.
    """
    if priors.boxes is None:
        raise ValueError("windows are boxes, and these priors have none")
    counts = truth.valid & ~truth.crowd
    if not counts.shape[1]:
        return torch.full((len(counts), len(priors.boxes)), NONE, device=counts.device)
    fit, index = (square_iou(truth.boxes, priors.boxes) * counts[..., None]).max(1)
    index = torch.where(fit >= positive, index, torch.where(fit < negative, NONE, IGNORE))
    return ignore_crowd(index, priors, truth)
