"""Anchors by K-means: the boxes of the toy set, and the sizes that stand for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anchors.boxes import iou
from anchors.kmeans import kmeans, mean_iou
from detect.data.sources.formats import load_data
from detect.training.setup import box_sizes
from tools.drawing import chart

SIDE = 320  # pixels of the image size


def draw() -> dict[str, np.ndarray]:
    """The boxes with three anchors, and what more anchors bring."""
    sizes = box_sizes(load_data("toy", "train"), SIDE)
    return {"anchors": _clusters(sizes), "anchors_count": _counts(sizes)}


def _clusters(sizes: Tensor) -> np.ndarray:
    anchors = kmeans(sizes, 3)
    of_boxes, of_anchors = (torch.cat([torch.zeros_like(sides), sides], 1) for sides in (sizes, anchors))
    overlap = iou(of_boxes, of_anchors)
    rows = [
        {"width": w, "height": h, "nearest": f"anchor {i + 1}", "kind": "box"}
        for (w, h), i in zip(sizes.tolist(), overlap.argmax(1).tolist(), strict=True)
    ]
    rows += [
        {"width": w, "height": h, "nearest": f"anchor {i + 1}", "kind": "anchor"}
        for i, (w, h) in enumerate(anchors.tolist())
    ]
    is_anchor = "datum.kind == 'anchor'"
    encoding = {
        "x": {"field": "width", "type": "quantitative", "title": f"width in pixels, at {SIDE} px"},
        "y": {"field": "height", "type": "quantitative", "title": "height"},
        "color": {"field": "nearest", "type": "nominal", "title": "largest IoU with"},
        "size": {"condition": {"test": is_anchor, "value": 240}, "value": 14},
        "stroke": {"condition": {"test": is_anchor, "value": "black"}, "value": None},
        "opacity": {"condition": {"test": is_anchor, "value": 1}, "value": 0.6},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "circle", "strokeWidth": 2}, "encoding": encoding}
    return chart({**spec, "width": 380, "height": 260})


def _counts(sizes: Tensor) -> np.ndarray:
    rows = [{"k": k, "mean IoU": mean_iou(sizes, kmeans(sizes, k))} for k in range(1, 13)]
    encoding = {
        "x": {"field": "k", "type": "ordinal", "title": "number of anchors", "axis": {"labelAngle": 0}},
        "y": {"field": "mean IoU", "type": "quantitative", "scale": {"domain": [0.5, 1]}},
    }
    line = {"mark": {"type": "line", "point": True}, "encoding": encoding}
    return chart({"data": {"values": rows}, **line, "width": 380, "height": 180})
