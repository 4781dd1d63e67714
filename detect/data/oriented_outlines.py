"""Outlines that are the oriented boxes of objects, for tasks that learn and measure these."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from anchors.oriented import corners_to_oriented, oriented_to_corners
from detect.data.outline_checks import outlined
from detect.data.outlines import Outlines

if TYPE_CHECKING:
    from detect.data.annotations import Annotations


def oriented_outlines(annotations: Annotations, skip_bad: bool = False) -> Annotations:
    """Return annotations whose outlines are the oriented boxes of their objects: the `Task.outlines` of such tasks.

    Four points that are not the corners of a rectangle, and other outlines, are replaced by their smallest rectangle.
    Augmentation keeps the boxes whole where they reach out of the image.

    Args:
        annotations: a dataset.
        skip_bad: leave objects without a usable outline out and list them in `left_out`.

    Raises:
        UserError: an object has no outline, or a bad one.
    """
    annotations = outlined(annotations, skip_bad)
    assert annotations.outlines is not None
    corners = oriented_to_corners(corners_to_oriented(torch.from_numpy(annotations.outlines.corners())))
    count = len(corners)
    rectangles = replace(
        Outlines.of_polygons([[]] * count),
        points=corners.reshape(-1, 2).numpy(),
        ring_starts=np.arange(count + 1) * 4,
        holes=np.zeros(count, bool),
        object_starts=np.arange(count + 1),
        whole=True,
    )
    return replace(annotations, outlines=rectangles)
