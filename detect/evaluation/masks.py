"""Average precision of masks by the COCO protocol, beside that of their boxes.

As in `coco_protocol`, hotcoco matches and the twelve numbers are summed as pycocotools sums them, equal to the bit. The
size of a detection is that of its mask, as for a COCO results file whose records have a `segmentation` and no `bbox`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.evaluation.annotated_masks import annotated_masks, image_sizes
from detect.evaluation.boundary import boundary_matches
from detect.evaluation.coco import CocoEvaluator, coco_lines
from detect.evaluation.coco_matching import ImageMatches, measure_matches
from detect.evaluation.coco_protocol import Records, Summary, number_names, summarize, summary_of
from detect.evaluation.resampled_ap import ClassMatches, collect_overlaps, match
from detect.masks import RleMasks
from detect.types import Detections


class MaskEvaluator(CocoEvaluator):
    """Compares detections that have masks with annotated masks; each image comes once, over all ranks.

    `summary` and `errors` are of the masks, and so is what is made of them: confidence thresholds, confusion, costs of
    errors. Masks stay run-length encoded.

    Args:
        annotations: the ground truth; every object needs an outline.

    Raises:
        UserError: an object has none.
    """

    prefix = "mask_"

    def __init__(self, annotations: Annotations) -> None:
        super().__init__(annotations)
        annotated_masks(annotations)
        self._place = {image: row for row, image in enumerate(annotations.image_ids.tolist())}

    def _collected(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> Records:
        records = super()._collected(image_ids, detections)
        masks = np.empty(len(records.scores), object)
        ends = records.counts.cumsum().tolist()
        for image, one, end in zip(image_ids, detections, ends, strict=True):
            masks[end - len(one) : end] = self._counts(image, one)
        return records._replace(masks=masks)

    def _counts(self, image_id: int, detections: Detections) -> list[bytes]:
        """The compressed masks of an image. Raises ValueError where they are missing or do not fit the image."""
        masks = detections.masks
        if not len(detections):
            return []
        if not isinstance(masks, RleMasks):
            raise ValueError(f"image id {image_id}: {len(detections)} detections have no masks of the source image")
        row = self._place.get(image_id, -1)  # an image that is not annotated is reported by `extend`
        size = tuple(image_sizes(self.annotations)[row].tolist())
        if row >= 0 and tuple(masks.size) != size:
            raise ValueError(f"image id {image_id}: masks are of {tuple(masks.size)} pixels, the image of {size}")
        return list(masks.counts)

    def records(self) -> Records:
        """Everything taken so far, for another rank's `extend`."""
        records = super().records()
        return records if records.masks is not None else records._replace(masks=np.zeros(0, object))

    def _forget_results(self) -> None:
        super()._forget_results()
        for name in ("box_summary", "box_matches", "boundaries", "boundary_summary"):
            self.__dict__.pop(name, None)

    @cached_property
    def box_summary(self) -> Summary:
        """All metrics of the boxes: see `Summary`."""
        return summarize(self.annotations, self.records()._replace(masks=None), self.protocol)

    def result(self) -> dict[str, Any]:
        """The metrics.

        Returns:
            What `CocoEvaluator.result` gives for the boxes; the same twelve numbers of the masks, named `mask_AP` and
            so on, and `mask_per_class`.
        """
        masks = {f"mask_{name}": value for name, value in self.summary.numbers.items()}
        per_class = {"per_class": dict(self.box_summary.per_class), "mask_per_class": dict(self.summary.per_class)}
        return {**self.box_summary.numbers, **masks, **per_class}

    @cached_property
    def box_matches(self) -> list[list[ClassMatches]]:
        """What the boxes of each size and class match."""
        return match(self.annotations, self.records()._replace(masks=None), self.protocol)

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each.

        With `boundary_result`, where that was asked for.
        """
        masks = super().resampled(weights, only)
        if only.startswith("mask_"):
            return {f"mask_{name}": value for name, value in masks.items()}
        boxes = self._numbers(self.box_matches, weights)
        found = boxes | {f"mask_{name}": value for name, value in masks.items()}
        if "boundary_summary" in self.__dict__:
            order = np.argsort(self.annotations.image_ids, kind="stable")
            edges = self._numbers(collect_overlaps(self.boundaries, order), weights)
            found |= {f"boundary_{name}": value for name, value in edges.items() if name != "per_class"}
        return found

    @cached_property
    def boundaries(self) -> list[list[ImageMatches]]:
        """What the masks match by boundary IoU."""
        return boundary_matches(self.annotations, self.records(), self.protocol)

    @cached_property
    def boundary_summary(self) -> Summary:
        """All metrics by boundary IoU."""
        return summary_of(self.annotations, *measure_matches(self.boundaries, self.protocol), self.protocol)

    def boundary_result(self) -> dict[str, float]:
        """The twelve numbers by boundary IoU, named `boundary_AP` and so on."""
        return {f"boundary_{name}": value for name, value in self.boundary_summary.numbers.items()}

    def _results(self) -> Iterator[dict]:
        """COCO records. The box is named `box`: with a `bbox`, pycocotools takes the size of a mask from its box."""
        records = self.records()
        images = np.repeat(records.image_ids, records.counts).tolist()
        sizes = image_sizes(self.annotations).tolist()
        categories = self.annotations.category_ids[records.labels].tolist()
        masks: Sequence[bytes] = [] if records.masks is None else records.masks.tolist()
        rows = zip(images, categories, masks, records.boxes.tolist(), records.scores.tolist(), strict=True)
        for image, category, counts, box, score in rows:
            mask = {"size": sizes[self._place[image]], "counts": counts.decode("ascii")}
            yield {"image_id": image, "category_id": category, "segmentation": mask, "box": box, "score": score}


def mask_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `MaskEvaluator.result`, and of `boundary_result` where it is there."""
    boxes = coco_lines(result)
    yield f"boxes       {next(boxes)}"
    names = (*number_names(result, "mask_"), "per_class")
    masks = coco_lines({name: result[f"mask_{name}"] for name in names})
    yield f"masks       {next(masks)}"
    if "boundary_AP" in result:
        values = {name: result[f"boundary_{name}"] for name in number_names(result, "boundary_")}
        yield f"boundaries  {next(coco_lines(values))}"
    for box, mask in zip(boxes, masks, strict=True):
        yield f"{box}  mask AP{mask.rpartition(' AP')[2]}"
