"""Assigners: which prior is trained on which object. They take predictions, priors and targets, and know no network.

An assigner is called with scores (B, A, C) in 0..1, boxes (B, A, 4) xyxy px, priors and padded targets, and works
without gradient. Unassigned priors whose centre lies in a crowd region are ignored.
"""

from collections.abc import Callable

from torch import Tensor

from anchors.assign.grid_cell import GridCell
from anchors.assign.max_iou import MaxIoU
from anchors.assign.sim_ota import SimOTA, VarifocalSimOTA
from anchors.assign.targets import IGNORE, NONE, Assignment, PaddedTargets, pad_targets
from anchors.assign.task_aligned import TaskAligned
from anchors.grid import Priors

Assigner = Callable[[Tensor, Tensor, Priors, PaddedTargets], Assignment]

__all__ = [
    "IGNORE",
    "NONE",
    "Assigner",
    "Assignment",
    "GridCell",
    "MaxIoU",
    "PaddedTargets",
    "SimOTA",
    "TaskAligned",
    "VarifocalSimOTA",
    "pad_targets",
]
