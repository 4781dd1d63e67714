"""Intersection over union: how much two boxes overlap, and what its variants say where they do not."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from anchors.boxes import iou
from tools.drawing import chart, sheet

RED, GREEN, SHARED = (214, 39, 40), (44, 160, 44), (255, 217, 102)
PAIRS = (  # the first of each is (20, 20, 120, 120)
    ("far away", (150, 30, 230, 110)),
    ("a corner", (90, 90, 190, 190)),
    ("half", (70, 20, 170, 120)),
    ("inside", (40, 40, 100, 100)),
    ("shifted by 10", (30, 20, 130, 120)),
    ("equal", (20, 20, 120, 120)),
)


def draw() -> dict[str, np.ndarray]:
    """Pairs of boxes with their overlap, and what the variants give while a box moves away."""
    return {"iou": _pairs(), "iou_away": _away()}


def _pairs() -> np.ndarray:
    tiles = []
    for name, other in PAIRS:
        image = np.full((200, 240, 3), 255, np.uint8)
        a, b = (20, 20, 120, 120), other
        low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
        if (high > low).all():
            cv2.rectangle(image, low.tolist(), high.tolist(), SHARED, -1)
        for box, color in ((a, GREEN), (b, RED)):
            cv2.rectangle(image, box[:2], box[2:], color, 2)
        value = iou(torch.tensor([a]).float(), torch.tensor([b]).float()).item()
        tiles.append((f"{name}: IoU {value:.2f}", image))
    return sheet(tiles, 3)


def _away() -> np.ndarray:
    still, other = torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([[20.0, -10.0, 80.0, 110.0]])
    rows = []
    for shift in range(0, 251, 2):
        moved = other + torch.tensor([shift, 0, shift, 0])
        for kind in ("iou", "giou", "diou", "ciou"):
            value = iou(still, moved, kind).item()
            rows.append({"shift": shift, "value": value, "kind": {"iou": "IoU"}.get(kind, kind[0].upper() + "IoU")})
    encoding = {
        "x": {
            "field": "shift",
            "type": "quantitative",
            "title": "pixels that the centre of a box of 60 × 120 lies right of that of one of 100 × 100",
        },
        "y": {"field": "value", "type": "quantitative", "title": None},
        "color": {"field": "kind", "type": "nominal", "title": None, "sort": ["IoU", "GIoU", "DIoU", "CIoU"]},
        "strokeDash": {"condition": {"test": "datum.kind == 'CIoU'", "value": [5, 7]}, "value": [1, 0]},  # on DIoU's
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 2.5}, "encoding": encoding}
    return chart({**spec, "width": 430, "height": 230})
