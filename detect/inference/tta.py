"""Test-time augmentation: each image is predicted in several sizes, and mirrored, and the boxes are fused."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from anchors.nms import overlaps
from anchors.oriented import canonical, oriented_iou
from detect.inference.box_fusion import concatenate_views, group_views, suppress
from detect.inference.merging import merged
from detect.inference.predictor import prefetch
from detect.masks import RleMasks
from detect.types import Detections, Frame, Postprocess

SCALES = (1.0, 0.83, 1.2)
VIEWS = 2 * len(SCALES)
SAME = 0.55  # the IoU from which boxes of two views are of one object (Solovyev et al., 2021)


class TTAPredictor:
    """A predictor made of one predictor for each size: frames to detections fused over the sizes and mirror images."""

    def __init__(self, predictors: Sequence[Any], keep: Postprocess) -> None:
        self.predictors, self.keep = predictors, keep

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Detections], None, None]:
        """Each frame with its detections, by descending score."""
        with closing(prefetch(frames, ahead=4)) as coming:
            for frame in coming:
                mirrored = mirrored_frame(frame)
                detections = []
                with self.keep.limit_hits.one_image():
                    for predictor in self.predictors:
                        (_, straight), (_, turned) = predictor([frame, mirrored])
                        detections += [straight, mirror(turned, frame.image.shape[1])]
                    fused = suppress(fuse_boxes(detections), self.keep)
                yield frame, fused


def mirrored_frame(frame: Frame) -> Frame:
    """The frame with its mirror image."""
    return replace(frame, image=np.ascontiguousarray(frame.image[:, ::-1]))


def mirror(detections: Detections, width: int) -> Detections:
    """Detections as they are in the mirrored image of that width."""
    low, high = detections.boxes[:, :2], detections.boxes[:, 2:]
    swapped = torch.stack([width - high[:, 0], low[:, 1], width - low[:, 0], high[:, 1]], 1)
    oriented = detections.oriented
    if oriented is not None:
        cx, cy, w, h, angle = oriented.unbind(1)
        oriented = canonical(torch.stack([width - cx, cy, w, h, -angle], 1))
    masks = detections.masks.mirrored() if isinstance(detections.masks, RleMasks) else None
    return replace(detections, boxes=swapped, oriented=oriented, masks=masks)


def fuse_boxes(detections: Sequence[Detections]) -> Detections:
    """Weighted boxes fusion (Solovyev et al., 2021) of the detections of several views, all in pixels of the image.

    A fused box is the mean of its boxes, weighted by their scores. Its score is the sum of theirs over the number of
    views, so that an object which few views show scores less. Its mask is voted for by those of its boxes. Oriented
    boxes are compared by their own IoU.
    """
    every, view = concatenate_views(detections)
    corners, scores, oriented = every.boxes.double().numpy(), every.scores.double().numpy(), every.oriented
    if oriented is None:
        group = group_views(every, view, lambda i: np.nan_to_num(overlaps(corners[i], corners.T)), SAME)
    else:
        overlap = oriented_iou(oriented, oriented).numpy()
        group = group_views(every, view, overlap.__getitem__, SAME)
    return merged(every, scores, group, np.bincount(group, scores) / len(detections))
