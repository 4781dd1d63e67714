"""Non-maximum suppression, step by step."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from anchors.boxes import iou
from anchors.nms import nms, soft_nms
from tools.drawing import chart, photograph, sheet, write

THRESHOLD = 0.5
KEPT, DROPPED, WAITING = (44, 160, 44), (214, 39, 40), (31, 119, 180)


def draw() -> dict[str, np.ndarray]:
    """Boxes around two objects, each step of their suppression, and scores with soft suppression."""
    return {"nms": _steps(), "nms_soft": _soft()}


def boxes() -> tuple[torch.Tensor, torch.Tensor]:
    """Seven boxes on the tower and the trees of the photograph, (7, 4) in pixels of width 320, and their scores."""
    found = [[62, 62, 168, 160], [50, 74, 156, 166], [74, 48, 178, 152], [70, 84, 180, 176]]
    found += [[266, 92, 316, 196], [258, 104, 312, 204], [272, 78, 319, 186]]
    return torch.tensor(found).float(), torch.tensor([0.9, 0.8, 0.7, 0.55, 0.85, 0.6, 0.5])


def _steps() -> np.ndarray:
    places, scores = boxes()
    left = scores.argsort(descending=True).tolist()
    kept: list[int] = []
    tiles = [("seven boxes", _drawn(places, scores, [], [], left))]
    while left:
        best, *rest = left
        dropped = [i for i in rest if iou(places[best : best + 1], places[i : i + 1]).item() > THRESHOLD]
        kept.append(best)
        left = [i for i in rest if i not in dropped]
        text = f"{len(kept)}. keep {scores[best]:.2f}"
        text += f", drop {' '.join(f'{scores[i]:.2f}' for i in dropped)}" if dropped else ", drop none"
        tiles.append((text, _drawn(places, scores, kept, dropped, left)))
    assert kept == nms(places, scores, THRESHOLD).tolist()
    return sheet([*tiles, ("what stays", _drawn(places, scores, kept, [], []))], 2)


def _drawn(
    places: torch.Tensor, scores: torch.Tensor, kept: list[int], dropped: list[int], left: list[int]
) -> np.ndarray:
    image = photograph("china", 320).copy()
    for group, color, width in ((left, WAITING, 1), (dropped, DROPPED, 1), (kept, KEPT, 3)):
        for i in group:
            x, y, right, bottom = places[i].int().tolist()
            cv2.rectangle(image, (x, y), (right, bottom), color, width)
            corner = ((x, y), (x, bottom - 14), (right - 30, y), (right - 30, bottom - 14))[i % 4]
            cv2.rectangle(image, corner, (corner[0] + 30, corner[1] + 14), (255, 255, 255), -1)
            write(image, f"{scores[i]:.2f}", (corner[0] + 2, corner[1]), 12, color)
    return image


def _soft() -> np.ndarray:
    places, scores = boxes()
    hard = torch.zeros_like(scores)
    kept = nms(places, scores, THRESHOLD)
    hard[kept] = scores[kept]
    softened = torch.zeros_like(scores)
    index, value = soft_nms(places, scores, sigma=0.5)
    softened[index] = value
    order = scores.argsort(descending=True).tolist()
    rows = [
        {"box": f"{scores[i]:.2f}", "score": values[i].item(), "after": name}
        for name, values in (("before", scores), ("NMS", hard), ("soft NMS", softened))
        for i in order
    ]
    encoding = {
        "x": {"field": "box", "type": "nominal", "sort": None, "title": "box, by its score", "axis": {"labelAngle": 0}},
        "xOffset": {"field": "after", "sort": ["before", "NMS", "soft NMS"]},
        "y": {"field": "score", "type": "quantitative", "title": "score afterwards"},
        "color": {"field": "after", "type": "nominal", "title": None, "sort": ["before", "NMS", "soft NMS"]},
    }
    return chart({"data": {"values": rows}, "mark": "bar", "encoding": encoding, "width": 430, "height": 200})
