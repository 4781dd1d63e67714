"""The numbers of a dataset's own protocol, beside COCO's: Open Images and WIDER FACE."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.coco_protocol import Records
from detect.evaluation.open_images import open_images_ap
from detect.evaluation.wider_face import wider_face_ap

OWN = ("OpenImages_AP50", "WIDER_AP")  # the single numbers


def own_numbers(annotations: Annotations, records: Records) -> dict[str, Any]:
    """The numbers of `Annotations.measured_as`, -1 where undefined; nothing for COCO's and LVIS's, which are `Summary`.

    Returns:
        `OpenImages_AP50` and `OpenImages_per_class`, or `WIDER_AP`.
    """
    if annotations.measured_as == "open_images":
        per_class = open_images_ap(annotations, records)
        defined = [value for value in per_class.values() if value is not None]
        return {"OpenImages_AP50": float(np.mean(defined)) if defined else -1.0, "OpenImages_per_class": per_class}
    if annotations.measured_as == "wider_face":
        value = wider_face_ap(annotations, records)
        return {"WIDER_AP": -1.0 if value is None else value}
    return {}
