"""roLabelImg: xml files as those of Pascal VOC, whose objects have a `robndbox` of cx, cy, w, h and angle.

The angle is in radians, from the x axis to the side w, clockwise on the screen. Width and height are as the file names
them, whichever is longer. Where a set has such boxes, an upright `bndbox` in it is an oriented box of angle 0.
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import numpy as np

from detect.errors import UserError

KEYS = ("cx", "cy", "w", "h", "angle")


def oriented(box: ElementTree.Element, where: str) -> dict[str, Any]:
    """Return the `bbox` and `segmentation` of a `robndbox`: its four corners, and the box around them.

    Raises:
        ValueError: what is wrong with it.
        UserError: its angle can only be in degrees, and so are those of other boxes, which nothing tells.
    """
    try:
        cx, cy, w, h, angle = (float(box.findtext(key) or "") for key in KEYS)
    except ValueError:
        raise ValueError("has a robndbox without the five numbers cx, cy, w, h and angle") from None
    if not all(map(math.isfinite, (cx, cy, w, h, angle))):
        raise ValueError("has a robndbox with a number that is NaN or infinite")
    if w <= 0 or h <= 0:
        raise ValueError(f"has a robndbox of width {w:g} and height {h:g}")
    if abs(angle) > 2 * math.pi + 0.01:
        raise UserError(f"{where} has an angle of {angle:g}, so angles are in degrees; convert them all to radians")
    along = np.array([math.cos(angle), math.sin(angle)]) * w / 2
    across = np.array([-math.sin(angle), math.cos(angle)]) * h / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = np.array([cx, cy]) + signs @ np.stack([along, across])
    low, high = corners.min(0), corners.max(0)
    return {"bbox": [*low.tolist(), *(high - low).tolist()], "segmentation": [corners.ravel().tolist()]}


def with_upright(annotations: list[dict[str, Any]]) -> None:
    """Give upright boxes of a set that has oriented ones their four corners."""
    if any(record.get("segmentation") for record in annotations):
        for record in annotations:
            if "segmentation" not in record and record["bbox"] is not None:
                x, y, w, h = record["bbox"]
                record["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
