"""Region proposals: from segments of an image to boxes, and what R-CNN, Fast and Faster R-CNN do with them."""

from __future__ import annotations

import cv2
import numpy as np

from detect.data.selective_search import STARTS, segments, selective_search
from tools.drawing import chart, photograph, sheet

WIDTH = 320
COST = {  # billions of multiply-accumulates at 160 px with 300 regions, by `detect info MODEL --imgsz 160`
    "R-CNN": (0.0, 3.70),
    "Fast R-CNN": (0.095, 0.29),
    "Faster R-CNN": (0.114, 0.29),
}


def draw() -> dict[str, np.ndarray]:
    """The first segments of the photograph, the first proposals, and what an image costs each of the three."""
    return {"regions": _proposals(), "regions_cost": _cost()}


def _proposals() -> np.ndarray:
    image = photograph("china", WIDTH)
    space, scale = STARTS[0]
    parts = segments(np.ascontiguousarray(cv2.cvtColor(image, space)), scale)
    counts = np.maximum(np.bincount(parts.ravel()), 1)
    means = np.stack([np.bincount(parts.ravel(), image[..., c].ravel()) / counts for c in range(3)], 1)
    boxes = selective_search(image)
    tiles = [(f"{parts.max() + 1} segments, in their mean colour", means[parts].astype(np.uint8))]
    for count in (10, 60):
        drawn = image.copy()
        for i, (left, top, right, bottom) in enumerate(boxes[:count].astype(int).tolist()):
            color = tuple(int(v) for v in np.random.default_rng(i).integers(60, 255, 3))
            cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), color, 1)
        tiles.append((f"the first {count} of {len(boxes):,} proposals", drawn))
    return sheet([("", image), *tiles], 2)


def _cost() -> np.ndarray:
    rows = [
        {"model": name, "part": part, "cost": cost}
        for name, costs in COST.items()
        for part, cost in zip(("the image, once", "300 regions"), costs, strict=True)
    ]
    encoding = {
        "y": {"field": "model", "type": "nominal", "title": None, "sort": list(COST)},
        "x": {"field": "cost", "type": "quantitative", "title": "billion multiply-accumulates at 160 px"},
        "color": {"field": "part", "type": "nominal", "title": None, "sort": ["the image, once"]},
    }
    return chart({"data": {"values": rows}, "mark": "bar", "encoding": encoding, "width": 400, "height": 110}, 1.3)
