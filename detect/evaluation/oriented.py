"""Average precision of oriented boxes, by the COCO protocol over rotated IoU and as DOTA measures it.

As in `coco_protocol`, hotcoco matches. Objects are measured by the smallest oriented boxes around their corners, and
sizes are those of oriented boxes: w * h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from anchors.oriented import canonical, oriented_to_corners
from detect.data.annotations import Annotations
from detect.evaluation.coco import CocoEvaluator, coco_lines
from detect.evaluation.coco_protocol import Records
from detect.evaluation.dota import DotaSummary, dota_matches, dota_summary, resampled_dota
from detect.evaluation.oriented_boxes import annotated_oriented
from detect.evaluation.resampled_ap import ClassMatches
from detect.types import Detections


class OrientedEvaluator(CocoEvaluator):
    """Compares detections that have oriented boxes with annotated ones; each image comes once, over all ranks.

    `summary` and `errors` are of the oriented boxes, and so is what is made of them.

    Args:
        annotations: the ground truth; every object needs an outline.

    Raises:
        UserError: an object has none.
    """

    def __init__(self, annotations: Annotations) -> None:
        super().__init__(annotations)
        annotated_oriented(annotations)

    def _collected(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> Records:
        parts = [torch.zeros(0, 5, dtype=torch.float64)]
        for image, one in zip(image_ids, detections, strict=True):
            if one.oriented is None and len(one):
                raise ValueError(f"image id {image}: {len(one)} detections have no oriented boxes")
            if one.oriented is not None:
                parts.append(one.oriented.detach().to("cpu", torch.float64))
        oriented = canonical(torch.cat(parts))
        if not oriented.isfinite().all():
            raise ValueError("oriented boxes of detections are not finite")
        return super()._collected(image_ids, detections)._replace(oriented=oriented.numpy())

    def records(self) -> Records:
        """Everything taken so far, for another rank's `extend`."""
        records = super().records()
        return records if records.oriented is not None else records._replace(oriented=np.zeros((0, 5)))

    def _forget_results(self) -> None:
        super()._forget_results()
        for name in ("dota", "dota_matches"):
            self.__dict__.pop(name, None)

    @cached_property
    def dota(self) -> DotaSummary:
        """AP50 as DOTA measures it: see `dota_summary`."""
        return dota_summary(self.annotations, self.records())

    @cached_property
    def dota_matches(self) -> list[ClassMatches]:
        """What the detections of each class match, as DOTA has it."""
        return dota_matches(self.annotations, self.records())

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        found, names = super().resampled(weights, only), self.annotations.names
        return found if only else found | resampled_dota(self.dota_matches, names, weights)

    def result(self) -> dict[str, Any]:
        """The metrics.

        Returns:
            What `CocoEvaluator.result` gives, over rotated IoU; `DOTA_AP50` by VOC 2007's eleven points,
            `DOTA_AP50_area`, and `DOTA_per_class`, the former by class name.
        """
        result = super().result()
        per_class = {"per_class": result.pop("per_class"), "DOTA_per_class": dict(self.dota.eleven_points)}
        return {**result, **self.dota.numbers, **per_class}

    def _results(self) -> Iterator[dict]:
        boxes = self.records().oriented
        oriented = torch.from_numpy(np.zeros((0, 5)) if boxes is None else boxes)
        corners = oriented_to_corners(oriented).reshape(-1, 8).tolist()
        for record, box, points in zip(super()._results(), oriented.tolist(), corners, strict=True):
            upright = record.pop("bbox")  # by which hotcoco would take the size of a record that has it
            yield record | {"obb": box, "poly": points, "box": upright}


def oriented_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `OrientedEvaluator.result`."""
    lines = coco_lines(result)
    yield next(lines)
    names = {"DOTA_AP50": "11 points", "DOTA_AP50_area": "area"}
    yield "DOTA's AP50: " + "  ".join(f"{result[name]:.3f} ({how})" for name, how in names.items())
    for line, value in zip(lines, result["DOTA_per_class"].values(), strict=True):
        yield f"{line}  DOTA's AP50 {'  -  ' if value is None else f'{value:.3f}'}"
