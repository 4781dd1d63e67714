"""Options of training with a teacher. Importing this file imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from detect.config.constraints import Count, Natural, Range, ReadWith, Share, ShareOrUnset, SideOrDefault
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


@dataclass(frozen=True)
class PseudoConfig:
    """How much is learned from images without labels, and which predictions become their labels."""

    weight: Annotated[float, Range(0), ReadWith("unlabelled"), ADVANCED] = 1.0
    """Weight of images without labels. 1: as much as labelled ones."""
    burn_in: Annotated[Natural, ReadWith("unlabelled"), ADVANCED] = 10
    """First epochs, which use labelled images alone."""
    each: Annotated[Count, ReadWith("unlabelled"), ADVANCED] = 1
    """Images without labels for each labelled one."""
    threshold: Annotated[ShareOrUnset, ReadWith("unlabelled"), ADVANCED] = None
    """Score from which a prediction is a label. Default: follows each class, so that an image gets as many labels of it
    as the labelled ones have objects."""
    lowest: Annotated[Share, ReadWith("unlabelled"), ADVANCED] = 0.2
    """Lowest threshold that following a class leads to."""
    class_thresholds: Annotated[dict[str, Share], ReadWith("unlabelled"), ADVANCED] = field(default_factory=dict)
    """Thresholds of single classes by name: {king: 0.6}."""
