"""Images of objects whose outlines are known, and a comparison of moved pixels with moved outlines."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from detect.data.augment.finish import with_masks
from detect.data.augment.transforms import ImageTarget
from detect.data.outlines import Outlines
from detect.types import Target


def star(rng, middle, radius):
    """A ring of a few corners around a point."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 12)))
    return middle + np.stack([np.cos(angles), np.sin(angles)], 1) * radius * rng.uniform(0.5, 1, (len(angles), 1))


def tile(seed, labels=(0, 1, 2), encoded=False, size=(150, 240)):
    """Objects with a hole each, drawn in a primary colour of their own, and their outlines as polygons or as RLE."""
    rng = np.random.default_rng(seed)
    image, rings = np.zeros((*size, 3), np.uint8), []
    for column, label in enumerate(labels):
        middle = np.array([(column + 0.5) * size[1] / len(labels), size[0] / 2])
        outer = star(rng, middle, min(size[0], size[1] / len(labels)) / 2 - 2)
        rings.append([outer, middle + (outer - middle) * 0.4])
        fine = np.zeros((size[0] * 8, size[1] * 8), np.uint8)
        cv2.fillPoly(fine, [np.rint(ring * 8 - 0.5).astype(np.int32) for ring in rings[-1]], 255)
        image[..., label] = cv2.resize(fine, size[::-1], interpolation=cv2.INTER_AREA)
    if encoded:
        image = np.where(image > 127, 255, 0).astype(np.uint8)
        outlines = Outlines.of_masks([image[..., label] > 0 for label in labels])
    else:
        outlines = Outlines.of_polygons(rings, [[False, True]] * len(rings))
    loose = torch.tensor([[0.0, 0, size[1], size[0]]] * len(labels)).reshape(-1, 4)  # to be replaced by the outline's
    nothing = torch.zeros(len(labels), dtype=torch.bool)
    target = Target(loose, torch.tensor(labels, dtype=torch.int64), nothing, 3, size, outlines=outlines)
    return ImageTarget(image, target)


def extent(drawn):
    """The box around pixels."""
    rows, columns = np.nonzero(drawn)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def check(image, target, least=0.93, edge=4.0):
    """Compare the moved pixels with the moved outlines, their boxes and masks. Return how many objects there are."""
    masks = with_masks(target).masks.numpy()
    for i, (label, box) in enumerate(zip(target.labels.tolist(), target.boxes.numpy(), strict=True)):
        drawn = image[..., label] > 127
        covered = target.outlines[i : i + 1].label_map(np.array([1]), target.size) == 1
        both, either = (drawn & covered).sum(), (drawn | covered).sum()
        assert both >= least * either - 12, (both, either)
        area = masks[i].mean() / 255 * np.prod(box[2:] - box[:2])
        assert area == pytest.approx(drawn.sum(), rel=1 - least, abs=12)
        if drawn.sum() > 60:
            assert (extent(image[..., label] > 127) * [-1, -1, 1, 1] <= box * [-1, -1, 1, 1] + 1.5).all()
            assert (extent(image[..., label] > 8) * [-1, -1, 1, 1] >= box * [-1, -1, 1, 1] - edge).all()
    return len(target)
