"""Options of predicting with several weights at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from detect.config.constraints import Positive, ReadWith, ShareOrUnset
from detect.config.fields import ADVANCED


@dataclass(frozen=True)
class MeanConfig:
    """How the embeddings of several weights for one image become one embedding."""

    weights: list[Positive] = field(default_factory=list)
    """Weight of each model. In the order of --weights. Default: all count the same."""


@dataclass(frozen=True)
class FusionConfig(MeanConfig):
    """How the results of several weights for one image become one result."""

    method: Literal["wbf", "nms", "soft-nms", "nmw"] = "wbf"
    """Fusion of boxes. With wbf: weighted boxes fusion, the mean of boxes, with a lower score where only some of the
    models detect the object. nms: the best box stays. soft-nms: the others stay with a lower score. nmw: non-maximum
    weighted, the mean of boxes with the best score."""
    iou: Annotated[ShareOrUnset, ReadWith("fusion.method", "wbf", "nms", "nmw"), ADVANCED] = None
    """Least IoU of one object's boxes. Boxes of one class that overlap more, of several --weights, are one object.
    Default: --iou, by which each model tells its objects apart."""
    skip: Annotated[ShareOrUnset, ADVANCED] = None
    """Least score of a box. Lower ones of a model take no part in the fusion. Default: --conf divided by the number of
    --weights."""
