"""The numbers of a dataset's own protocol, beside COCO's: Open Images and WIDER FACE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.bootstrap import mean_known
from detect.evaluation.coco_protocol import Records
from detect.evaluation.open_images import matched_ap, open_images_ap, open_images_matches
from detect.evaluation.resampled_ap import ClassMatches, average_precision
from detect.evaluation.wider_face import wider_face_matches

OWN = ("OpenImages_AP50", "WIDER_AP")  # the single numbers


def own_matches(annotations: Annotations, records: Records) -> list[ClassMatches]:
    """What the detections match by the protocol of `Annotations.measured_as`; nothing for COCO's and LVIS's.

    Returns:
        The matches of each class; of faces those of all as one.
    """
    if annotations.measured_as == "open_images":
        return open_images_matches(annotations, records)
    return [wider_face_matches(annotations, records)] if annotations.measured_as == "wider_face" else []


def own_numbers(annotations: Annotations, matches: Sequence[ClassMatches]) -> dict[str, Any]:
    """The numbers of `Annotations.measured_as`, -1 where undefined; nothing for COCO's and LVIS's, which are `Summary`.

    Returns:
        `OpenImages_AP50` and `OpenImages_per_class`, or `WIDER_AP`.
    """
    if annotations.measured_as == "open_images":
        per_class = open_images_ap(annotations, matches)
        defined = [value for value in per_class.values() if value is not None]
        return {"OpenImages_AP50": float(np.mean(defined)) if defined else -1.0, "OpenImages_per_class": per_class}
    if annotations.measured_as == "wider_face":
        value = matched_ap(matches[0])
        return {"WIDER_AP": -1.0 if value is None else value}
    return {}


def resampled_own(annotations: Annotations, matches: Sequence[ClassMatches], weights: np.ndarray) -> dict[str, Any]:
    """`own_numbers` of resamples whose images count as `weights` (R, I) says: (R,) each, NaN where undefined."""
    columns = np.ascontiguousarray(weights.T)
    each = [average_precision(one, columns, None)[0] for one in matches]
    if annotations.measured_as == "open_images":
        per_class = dict(zip(annotations.names, each, strict=True))
        return {"OpenImages_AP50": mean_known(np.stack(each)), "OpenImages_per_class": per_class}
    return {"WIDER_AP": each[0]} if annotations.measured_as == "wider_face" else {}
