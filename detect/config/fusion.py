"""Options of predicting with several weights at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from detect.config.constraints import Positive, ReadWith, Share, ShareOrUnset


@dataclass(frozen=True)
class FusionConfig:
    """How the results of several weights for one image become one result."""

    method: Literal["wbf", "nms", "soft-nms", "nmw"] = "wbf"
    """Fusion of the boxes of several --weights. wbf: weighted boxes fusion, their mean, with a lower score where only
    some of the models detect the object. nms: the best box stays. soft-nms: the others stay with a lower score. nmw:
    non-maximum weighted, the mean with the best score."""
    iou: Annotated[Share, ReadWith("fusion.method", "wbf", "nms", "nmw")] = 0.55
    """IoU above which boxes of one class, of several --weights, are of one object."""
    skip: ShareOrUnset = None
    """Boxes of a model with a lower score take no part in the fusion. Default: --conf divided by the number of
    --weights."""
    weights: list[Positive] = field(default_factory=list)
    """How much each of several --weights counts, in their order. Default: all the same."""
