"""What task-aligned assignment needs to know of oriented boxes: which centres lie inside one, and their overlap."""

from torch import Tensor

from anchors.assign.task_aligned import TaskAligned
from anchors.oriented import prob_iou_aligned


def centered_oriented(centers: Tensor, boxes: Tensor, least: Tensor | None = None) -> Tensor:
    """Find the centres inside each oriented box.

    Args:
        centers: x, y of the priors, (A, 2).
        boxes: oriented boxes (G, 5); their borders belong to them.
        least: side of an upright square that every box counts as being large enough to hold, so that a grid of that
            step has a centre in it.

    Returns:
        (G, A) bool.
    """
    cx, cy, w, h, angle = boxes[..., None].unbind(1)
    cos, sin = angle.cos(), angle.sin()
    if least is not None:
        held = least * (cos.abs() + sin.abs())
        w, h = w.maximum(held), h.maximum(held)
    dx, dy = centers[:, 0] - cx, centers[:, 1] - cy
    inside: Tensor = ((dx * cos + dy * sin).abs() <= w / 2) & ((dy * cos - dx * sin).abs() <= h / 2)
    return inside


def oriented_task_aligned() -> TaskAligned:
    """The task-aligned assigner of oriented boxes, whose overlap is the probabilistic IoU."""
    return TaskAligned(inside=centered_oriented, overlap=prob_iou_aligned)
