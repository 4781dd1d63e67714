"""Exact greedy non-maximum suppression (NMS) of oriented boxes."""

import torch
from torch import Tensor

from anchors.nms import decide
from anchors.oriented import clipped_iou, columns, meeting


def oriented_nms(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou: float) -> Tensor:
    """Suppress every oriented box whose IoU with a kept box of its group and of higher score exceeds a threshold.

    Args:
        boxes: (N, 5), see `anchors.oriented`. Boxes without area neither suppress others nor are suppressed.
        scores: (N,).
        groups: (N,), such as labels; boxes of different groups do not suppress each other. None: one group.
        iou: IoU threshold.

    Returns:
        Indices (K,) int64 of the kept boxes, by descending score; the lower index comes first among equal scores.

    Raises:
        ValueError: boxes or scores contain NaN or infinity, or lengths differ.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 5 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)} must be (N, 5) and (N,)")
    if groups is not None and groups.shape != scores.shape:
        raise ValueError(f"{len(groups)} groups for {len(boxes)} boxes")
    if not (boxes.isfinite().all() and scores.equal(scores)):
        raise ValueError("boxes or scores are not finite: remove those rows before suppression")
    order = scores.argsort(descending=True, stable=True)
    ranked = columns(boxes[order])
    pairs = meeting(ranked, ranked)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    if groups is not None:
        group = groups[order]
        pairs = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]]
    better, worse = pairs.unbind(1)
    hit = clipped_iou(ranked[:, better], ranked[:, worse]) > iou
    alive = decide(better[hit].numpy(force=True), worse[hit].numpy(force=True), len(boxes))
    return order[torch.from_numpy(alive).to(order.device)]
