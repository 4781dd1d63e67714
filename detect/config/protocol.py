"""Options of the COCO protocol: the defaults are COCO's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from detect.config.fields import ADVANCED


@dataclass(frozen=True)
class ProtocolConfig:
    """How detections are matched and counted; numbers of other protocols than COCO's are not COCO's, and say so."""

    ious: Annotated[list[float], ADVANCED] = field(default_factory=list)
    """IoU thresholds (of keypoints: OKS) over which AP is averaged. Default: 0.5, 0.55, … 0.95."""
    area_edges: Annotated[list[float], ADVANCED] = field(default_factory=lambda: [32.0**2, 96.0**2])
    """Areas in pixels that part the sizes of objects, ascending. AP and AR are given for each size; []: for none."""
    max_dets: Annotated[list[int], ADVANCED] = field(default_factory=lambda: [1, 10, 100])
    """Detections of an image and class that count, the highest-scored; AP is of the last, AR of each. Keypoints have
    COCO's 20 where these are COCO's."""
    class_agnostic: Annotated[bool, ADVANCED] = False
    """Whether classes do not count: every object and detection is of one class."""
    sigmas: Annotated[list[float], ADVANCED] = field(default_factory=list)
    """Spread of each keypoint for OKS, in the order of the annotations. Default: COCO's for its 17 names, else 0.05."""
    iou_type: Annotated[Literal["auto", "bbox", "segm", "keypoints", "obb"], ADVANCED] = "auto"
    """What of a --results file is matched. Default: what its first record has: oriented boxes, keypoints, masks, or
    boxes."""
