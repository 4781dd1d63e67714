"""Options of training with a teacher. Importing this file imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from detect.config.constraints import Range, ReadWith, Share, SideOrDefault
from detect.config.fields import ADVANCED


@dataclass(frozen=True)
class DistillConfig:
    """How much a student learns from what its `--teacher` predicts for the same augmented images."""

    weight: Annotated[float, Range(0), ReadWith("teacher"), ADVANCED] = 1.0
    """Weight of the teacher's scores and boxes as targets. 1: as much as the labels."""
    features: Annotated[float, Range(0), ReadWith("teacher"), ADVANCED] = 3.0
    """Weight of the distance between feature maps of equal stride. 0: scores and boxes alone."""
    confidence: Annotated[Share, ReadWith("teacher"), ADVANCED] = 0.1
    """Score of the teacher from which its box is a target. Its scores are targets everywhere."""
    imgsz: Annotated[SideOrDefault, ReadWith("teacher"), ADVANCED] = 0
    """Image size in pixels that the teacher sees. Default: the student's."""
