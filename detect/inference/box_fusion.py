"""One object seen in several views of a picture: which boxes are of the same, so that it counts once.

Axes: N boxes of all views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from anchors.nms import batched_nms
from detect.types import Detections, Postprocess


def concatenate_views(found: Sequence[Detections]) -> tuple[Detections, np.ndarray]:
    """The detections of all views as one, and the view (N,) each is from."""
    boxes, scores, labels = (torch.cat([getattr(one, name) for one in found]) for name in ("boxes", "scores", "labels"))
    return Detections(boxes, scores, labels), np.repeat(np.arange(len(found)), [len(one) for one in found])


def group_views(found: Detections, view: np.ndarray, alike: Callable[[int], np.ndarray], least: float) -> np.ndarray:
    """The object (N,), a number from 0, that each detection is of.

    Best first, each joins the object with the member it is most alike, if by `least`, or is a new one. Members are of
    one class, and no two of one view, in which suppression has told them apart. `alike` gives the likeness (N,) of the
    detection of a number to all.
    """
    labels = found.labels.numpy()
    group = np.full(len(found), -1)
    there = np.zeros((len(found), view.max(initial=0) + 1), bool)  # whether an object was seen in a view
    count = 0
    for i in (-found.scores.numpy()).argsort(kind="stable"):
        open_ = (group >= 0) & (labels == labels[i])
        open_ &= ~there[group, view[i]]
        like = np.where(open_, alike(i), 0.0)
        best = like.argmax()
        if like[best] >= least:
            group[i] = group[best]
        else:
            group[i], count = count, count + 1
        there[group[i], view[i]] = True
    return group


def suppress(found: Detections, keep: Postprocess) -> Detections:
    """What suppression as `keep` says leaves of detections, best first."""
    found = found[found.scores > keep.score]
    groups = torch.zeros_like(found.labels) if keep.agnostic else found.labels
    kept = batched_nms(found.boxes, found.scores, groups, keep.iou)
    keep.limit_hits.add(limited=len(kept) > keep.limit)
    return found[kept[: keep.limit]]
