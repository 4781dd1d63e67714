"""The mean of detections of the same objects: boxes, oriented boxes, keypoints and masks.

Axes: N detections, G objects, K keypoints.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from anchors.oriented import oriented_bounds
from detect.inference.box_fusion import members_of
from detect.inference.mask_fusion import voted
from detect.inference.oriented_fusion import mean_oriented
from detect.masks import RleMasks
from detect.types import Detections


def merged(every: Detections, weights: np.ndarray, group: np.ndarray, scores: np.ndarray) -> Detections:
    """One detection for each object, the weighted mean of its members: of boxes, oriented boxes and keypoints.

    A pixel belongs to its mask where members with half of the weight have it. A keypoint counts by its visibility, too.

    Args:
        every: N, those of one object of one class.
        weights: (N,), above 0.
        group: the number (N,) of the object of each, from 0.
        scores: (G,) of the objects.

    Returns:
        G, by their numbers.
    """
    count = len(scores)
    total = np.bincount(group, weights, count)

    def mean(values: np.ndarray, own: np.ndarray, sums: np.ndarray) -> torch.Tensor:
        columns = [np.bincount(group, own * column, count) / sums for column in values.T]
        return torch.from_numpy(np.stack(columns, 1)).float()

    boxes = mean(every.boxes.double().numpy(), weights, total)
    labels = every.labels[np.unique(group, return_index=True)[1]]
    found = Detections(boxes, torch.from_numpy(scores).float(), labels)
    if every.oriented is not None:
        oriented = torch.from_numpy(mean_oriented(every.oriented.double().numpy(), weights, group)).float()
        found = replace(found, boxes=oriented_bounds(oriented), oriented=oriented)
    if every.keypoints is not None:
        points = []
        for one in every.keypoints.double().unbind(1):
            seen = weights * one[:, 2].clamp_min(1e-9).numpy()  # of unseen ones the plain mean
            place = mean(one[:, :2].numpy(), seen, np.bincount(group, seen, count))
            points.append(torch.cat([place, mean(one[:, 2:].numpy(), weights, total)], 1))
        found = replace(found, keypoints=torch.stack(points, 1))
    if isinstance(every.masks, RleMasks):
        found = replace(found, masks=voted(every.masks, members_of(group), weights))
    return found
