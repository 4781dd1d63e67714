"""Keypoints of many objects at once: average precision by object keypoint similarity, as COCO measures it.

As in `coco_protocol`, hotcoco matches and the ten numbers are summed as pycocotools sums them, equal to the bit.
Axes as there; sizes are all, medium and large, and the only limit is 20 detections of an image and class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import torch

from detect.data.annotations import Annotations
from detect.data.validate import require_skeleton
from detect.errors import UserError
from detect.evaluation.coco import CocoEvaluator, coco_lines
from detect.evaluation.coco_protocol import Records, mean_defined
from detect.evaluation.protocol import COCO, Number, Protocol
from detect.evaluation.resampled_ap import ClassMatches, collect, resampled_numbers
from detect.models.keypoints import sigmas
from detect.types import Detections
from detect.utils.atomic_io import replace_file

NUMBERS: Mapping[str, Number] = COCO.keypoint_numbers()


class KeypointEvaluator:
    """Compares boxes with keypoints with the annotations; each image comes once, over all ranks."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations, self.boxes = annotations, CocoEvaluator(annotations)
        self._points: list[np.ndarray] = []

    def _forget_results(self) -> None:
        for name in ("_engine", "matches"):
            self.__dict__.pop(name, None)

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Take the detections of these images; raises ValueError as `CocoEvaluator.update` does, or without points."""
        k = len(self.annotations.keypoint_names)
        points = [torch.zeros(0, k, 3) if one.keypoints is None else one.keypoints for one in detections]
        for one, some in zip(detections, points, strict=True):
            if some.shape != (len(one), k, 3):
                raise ValueError(f"{len(one)} detections need points of shape ({len(one)}, {k}, 3)")
        self.boxes.update(image_ids, detections)
        self._forget_results()
        self._points += [some.detach().cpu().double().numpy() for some in points]

    def records(self) -> tuple[Records, np.ndarray]:
        """Everything taken so far, for another rank's `extend`: boxes, and keypoints (N, K, 3) in their order."""
        self._points = [np.concatenate([np.zeros((0, len(self.annotations.keypoint_names), 3)), *self._points])]
        return self.boxes.records(), self._points[0]

    def extend(self, records: tuple[Records, np.ndarray]) -> None:
        """Take what another evaluator of the same annotations has collected."""
        self.boxes.extend(records[0])
        self._forget_results()
        self._points.append(records[1])

    def result(self) -> dict[str, Any]:
        """What `CocoEvaluator.result` gives for the boxes, and the ten metrics of NUMBERS, -1 where undefined."""
        engine = self._engine
        engine.accumulate()
        arrays = engine.eval or {}
        numbers = {
            name: mean_defined(arrays[which][threshold][..., size, 0])
            for name, (which, threshold, size, _) in self.protocol.keypoint_numbers().items()
        }
        return self.boxes.result() | {name: -1.0 if value is None else value for name, value in numbers.items()}

    @property
    def protocol(self) -> Protocol:
        """That of the boxes and of the keypoints. Set before the first result."""
        return self.boxes.protocol

    @protocol.setter
    def protocol(self, protocol: Protocol) -> None:
        self.boxes.protocol = protocol

    @cached_property
    def _engine(self) -> hotcoco.COCOeval:
        """The engine after matching."""
        annotated = hotcoco.COCO(nameless(self.annotations))
        engine = hotcoco.COCOeval(annotated, annotated.load_res(list(self._results())), "keypoints")
        ranges = self.protocol.keypoint_ranges
        engine.params.kpt_oks_sigmas = list(self.protocol.sigmas or sigmas(self.annotations.keypoint_names))
        engine.params.iou_thrs, engine.params.max_dets = list(self.protocol.ious), [self.protocol.keypoint_limit]
        engine.params.area_rng = [list(one) for one in ranges]
        engine.params.area_rng_lbl = [str(k) for k in range(len(ranges))]
        engine.evaluate()
        return engine

    @cached_property
    def matches(self) -> list[list[ClassMatches]]:
        """What the keypoints of each size and class match."""
        rows = {image: row for row, image in enumerate(self.annotations.image_ids.tolist())}
        labels = {category: label for label, category in enumerate(self.annotations.category_ids.tolist())}
        found = (
            {**one, "image_id": rows[one["image_id"]], "category_id": labels[one["category_id"]]}
            for one in self._engine.eval_imgs
            if one is not None
        )
        none = np.zeros(0)
        return collect(found, len(labels), self.protocol.keypoint_ranges, none, none)

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        numbers, limits = self.protocol.keypoint_numbers(), (self.protocol.keypoint_limit,)
        matches = self.matches[:1] if only else self.matches
        points = resampled_numbers(matches, weights, self.annotations.names, numbers, limits)
        if only.startswith("OKS_"):
            return points
        return self.boxes.resampled(weights) | {name: points[name] for name in numbers}

    def _results(self) -> Iterator[dict[str, Any]]:
        _, points = self.records()
        for record, own in zip(self.boxes.detections(), points, strict=True):
            yield record | {"keypoints": own.ravel().tolist()}

    def write(self, path: Path) -> None:
        """Write a COCO results file: box, keypoints and score of each detection."""
        replace_file(path, lambda part: part.write_text(json.dumps(list(self._results())) + "\n", encoding="utf-8"))


def nameless(annotations: Annotations) -> dict:
    """The annotations as a COCO dictionary with numbers for names, which the engine ignores and may reject."""
    annotated = annotations.to_coco()
    points = list(map(str, range(len(annotations.keypoint_names))))
    categories = [{"id": one["id"], "name": str(one["id"]), "keypoints": points} for one in annotated["categories"]]
    return annotated | {"images": [{"id": one["id"]} for one in annotated["images"]], "categories": categories}


def require_keypoints(train: Annotations, validation: Annotations) -> None:
    """Refuse data whose keypoints cannot be learned or measured.

    Raises:
        UserError: a set has no labelled keypoint, the two declare different keypoints, or the skeleton cannot be drawn.
    """
    if train.keypoints is None or not (train.keypoints[..., 2] > 0).any():
        raise UserError(f"{train.path} has no labelled keypoints: choose a model without keypoints, such as yolo_n")
    if validation.keypoints is not None and not (validation.keypoints[..., 2] > 0).any():
        raise UserError(
            f"{validation.path}: the validation set has no labelled keypoint: label some, or remove the split"
        )
    require_skeleton(train)
    if list(train.keypoint_names) != list(validation.keypoint_names):
        raise UserError(f"{train.path} and {validation.path} declare different keypoints: make them the same")


def keypoint_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `KeypointEvaluator.result`."""
    boxes = coco_lines(result)
    yield f"boxes   {next(boxes)}"
    points = {name.removeprefix("OKS_"): value for name, value in result.items() if name.startswith("OKS_")}
    yield "points  " + "  ".join(f"{name} {value:.3f}" for name, value in points.items())
    yield from boxes
