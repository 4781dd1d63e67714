"""Test-time augmentation: each picture is looked at in several sizes, and mirrored; what was found is averaged."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detect.inference.box_fusion import concatenate_views, group_views, suppress
from detect.inference.predictor import prefetch
from detect.types import Detections, Frame, Postprocess

SCALES = (1.0, 0.83, 1.2)
VIEWS = 2 * len(SCALES)
SAME = 0.55  # the IoU from which boxes of two views are of one object (Solovyev et al., 2021)


class TTAPredictor:
    """A predictor made of predictors, one a size: frames to detections averaged over the sizes and their mirrors."""

    def __init__(self, predictors: Sequence[Any], keep: Postprocess) -> None:
        self.predictors, self.keep = predictors, keep

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Detections], None, None]:
        """Each frame with its detections, best first."""
        with closing(prefetch(frames, ahead=4)) as coming:
            for frame in coming:
                mirrored = replace(frame, image=np.ascontiguousarray(frame.image[:, ::-1]))
                found = []
                with self.keep.limit_hits.one_image():
                    for predictor in self.predictors:
                        (_, straight), (_, turned) = predictor([frame, mirrored])
                        found += [straight, mirror(turned, frame.image.shape[1])]
                    whole = suppress(fuse_boxes(found), self.keep)
                yield frame, whole


def mirror(found: Detections, width: int) -> Detections:
    """Detections in the mirror image of a picture of that width."""
    low, high = found.boxes[:, :2], found.boxes[:, 2:]
    swapped = torch.stack([width - high[:, 0], low[:, 1], width - low[:, 0], high[:, 1]], 1)
    return replace(found, boxes=swapped)


def fuse_boxes(found: Sequence[Detections]) -> Detections:
    """The objects that several views of one picture show: weighted boxes fusion (Solovyev et al., 2021).

    A box is the mean of its views', weighted by their scores; a score is the sum over the number of views, so that what
    few views show counts less.
    """
    every, view = concatenate_views(found)
    corners, scores = every.boxes.double().numpy(), every.scores.double().numpy()
    group = group_views(every, view, lambda i: _iou(corners[i], corners), SAME)
    count = group.max(initial=-1) + 1
    total = np.bincount(group, scores, count)
    boxes = np.stack([np.bincount(group, scores * side, count) for side in corners.T], 1) / total[:, None]
    first = np.unique(group, return_index=True)[1]
    means = torch.from_numpy(total / len(found)).float()
    return Detections(torch.from_numpy(boxes).float(), means, every.labels[first])


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU (N,) of a box (4,) with boxes (N, 4), 0 for empty ones."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = sides.clip(0).prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - inter
    return inter / np.maximum(union, 1e-9)
