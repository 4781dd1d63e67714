"""The class of each pixel of an image, from the outlines of its objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from detect.data.boxes import owners
from detect.data.outline_checks import outlined, outlined_areas
from detect.data.outlines import Outlines
from detect.data.validate import require_objects
from detect.errors import UserError
from detect.semantic import IGNORED
from detect.types import Target

if TYPE_CHECKING:
    from detect.data.annotations import Annotations

CROWD = IGNORED - 1  # what crowd regions are painted with at first
MOST = CROWD - 1  # classes beside the background


def layered(annotations: Annotations, skip_bad: bool = False) -> Annotations:
    """The annotations with outlines, in the order in which they are painted: crowd regions, then the largest first.

    So small objects lie on large ones, as windows on a house. Augmentation keeps the order.

    Raises:
        UserError: as `outlined` does.
    """
    annotations = outlined(annotations, skip_bad)
    assert annotations.outlines is not None
    owner, areas = owners(annotations), outlined_areas(annotations.outlines)
    order = np.lexsort((-areas, ~annotations.crowd, owner))
    columns = ("boxes", "labels", "crowd", "areas", "ids", "keypoints", "outlines")
    found = {name: getattr(annotations, name) for name in columns}
    return replace(annotations, **{name: rows[order] for name, rows in found.items() if rows is not None})


def label_map(
    outlines: Outlines, labels: np.ndarray, crowd: np.ndarray, size: tuple[int, int], background: int
) -> np.ndarray:
    """The class of each pixel (h, w) uint8; later objects lie on earlier ones.

    Args:
        outlines: of N objects.
        labels: their classes (N,).
        crowd: (N,) bool; pixels that only such regions cover are IGNORED.
        size: height and width.
        background: the class of pixels that nothing covers.
    """
    painted = outlines.label_map(np.where(crowd, CROWD, labels), size)
    painted[painted == IGNORED] = background
    painted[painted == CROWD] = IGNORED
    return painted


def with_label_map(target: Target, background: int) -> Target:
    """The target with a `label_map` in place of its outlines, as `label_map` makes it."""
    assert target.outlines is not None
    rows = target.labels.numpy(), target.crowd.numpy(), target.size
    made = torch.from_numpy(label_map(target.outlines, *rows, background))
    return replace(target, label_map=made, outlines=None)


def image_labels(annotations: Annotations, index: int, size: tuple[int, int]) -> np.ndarray:
    """`label_map` of an annotated image of `size`, (h, w) uint8."""
    assert annotations.outlines is not None
    rows = slice(int(annotations.starts[index]), int(annotations.starts[index + 1]))
    objects = annotations.outlines[rows], annotations.labels[rows], annotations.crowd[rows]
    return label_map(*objects, size, len(annotations.names))


def require_pixels(training: Annotations, validation: Annotations) -> None:
    """Raises UserError where there is nothing to learn or to measure, or classes are too many for a map of pixels."""
    require_objects(training, validation)
    if len(training.names) > MOST:
        raise UserError(f"{training.path} has {len(training.names)} classes: a map of pixels can have {MOST}")
