"""Which boxes are marked twice, all compared with all: the naive twin of `findings.doubled`."""

import numpy as np
import torch

from anchors.boxes import iou


def doubled(corners: np.ndarray, labels: np.ndarray, plain: np.ndarray, above: float) -> np.ndarray:
    """For each of N boxes the first before it of its class with an IoU `above`, else -1."""
    boxes = torch.from_numpy(corners)
    same = (iou(boxes, boxes).numpy() > above) & (labels[:, None] == labels) & plain[:, None] & plain
    first = np.where(np.tril(same, -1), np.arange(len(labels)), len(labels)).min(1, initial=len(labels))
    return np.where(first < len(labels), first, -1)
