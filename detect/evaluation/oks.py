"""Keypoints of many objects at once: average precision by object keypoint similarity, as COCO measures it.

As in `protocol`, hotcoco matches and the ten numbers are taken as pycocotools takes them, equal to the bit.
Axes as there; sizes are all, medium and large, and the only limit is 20 detections of an image and class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from detect.models.keypoints import sigmas
from detect.types import Detections
from detect.utils.atomic_io import replace_file

# name -> array, OKS threshold (index into T; all of them: the whole slice), size
NUMBERS: Mapping[str, tuple[str, slice, int]] = {
    "OKS_AP": ("precision", slice(None), 0),
    "OKS_AP50": ("precision", slice(0, 1), 0),
    "OKS_AP75": ("precision", slice(5, 6), 0),
    "OKS_APm": ("precision", slice(None), 1),
    "OKS_APl": ("precision", slice(None), 2),
    "OKS_AR": ("recall", slice(None), 0),
    "OKS_AR50": ("recall", slice(0, 1), 0),
    "OKS_AR75": ("recall", slice(5, 6), 0),
    "OKS_ARm": ("recall", slice(None), 1),
    "OKS_ARl": ("recall", slice(None), 2),
}


class KeypointEvaluator:
    """Boxes with keypoints against the truth of a store; each image is given once, over all ranks."""

    def __init__(self, store: Annotations) -> None:
        self.store, self.boxes = store, CocoEvaluator(store)
        self._points: list[np.ndarray] = []

    def update(self, image_ids: Sequence[int], found: Sequence[Detections]) -> None:
        """Take the detections of these images; raises ValueError as `CocoEvaluator.update` does, or without points."""
        k = len(self.store.keypoint_names)
        points = [torch.zeros(0, k, 3) if one.keypoints is None else one.keypoints for one in found]
        for one, some in zip(found, points, strict=True):
            if some.shape != (len(one), k, 3):
                raise ValueError(f"{len(one)} detections need points of shape ({len(one)}, {k}, 3)")
        self.boxes.update(image_ids, found)
        self._points += [some.detach().cpu().double().numpy() for some in points]

    def records(self) -> tuple[Records, np.ndarray]:
        """All that was collected, for another rank's `extend`: boxes, and points (N, K, 3) in their order."""
        self._points = [np.concatenate([np.zeros((0, len(self.store.keypoint_names), 3)), *self._points])]
        return self.boxes.records(), self._points[0]

    def extend(self, records: tuple[Records, np.ndarray]) -> None:
        """Take what another evaluator of the same store collected."""
        self.boxes.extend(records[0])
        self._points.append(records[1])

    def result(self) -> dict[str, Any]:
        """What `CocoEvaluator.result` says of the boxes, and the ten numbers of NUMBERS, -1 where undefined."""
        arrays = self._measure()
        numbers = {
            name: mean_defined(arrays[which][threshold][..., size, 0])
            for name, (which, threshold, size) in NUMBERS.items()
        }
        return self.boxes.result() | {name: -1.0 if value is None else value for name, value in numbers.items()}

    def _measure(self) -> Mapping[str, np.ndarray]:
        truth = hotcoco.COCO(nameless(self.store))
        engine = hotcoco.COCOeval(truth, truth.load_res(list(self._results())), "keypoints")
        engine.params.kpt_oks_sigmas = sigmas(self.store.keypoint_names)
        engine.evaluate()
        engine.accumulate()
        arrays = engine.eval or {}
        return {name: arrays[name] for name in ("precision", "recall")}

    def _results(self) -> Iterator[dict[str, Any]]:
        _, points = self.records()
        for record, own in zip(self.boxes.detections(), points, strict=True):
            yield record | {"keypoints": own.ravel().tolist()}

    def write(self, path: Path) -> None:
        """Write the COCO results file: of each detection the box, its keypoints and the score."""
        replace_file(path, lambda part: part.write_text(json.dumps(list(self._results())) + "\n", encoding="utf-8"))


def nameless(store: Annotations) -> dict:
    """The store as a COCO dictionary with numbers for names, which the engine has no use for and may not take."""
    truth = store.to_coco()
    points = list(map(str, range(len(store.keypoint_names))))
    categories = [{"id": one["id"], "name": str(one["id"]), "keypoints": points} for one in truth["categories"]]
    return truth | {"images": [{"id": one["id"]} for one in truth["images"]], "categories": categories}


def require_keypoints(train: Annotations, held_out: Annotations) -> None:
    """Raises UserError where a set has no labelled keypoint, the two have other keypoints, or no skeleton to draw."""
    if train.keypoints is None or not (train.keypoints[..., 2] > 0).any():
        raise UserError(f"{train.path} has no labelled keypoints; use a model without points, such as yolo_n")
    if held_out.keypoints is not None and not (held_out.keypoints[..., 2] > 0).any():
        raise UserError(f"{held_out.path}: the held-out set has no labelled keypoint: label some, or remove the split")
    require_skeleton(train)
    if list(train.keypoint_names) != list(held_out.keypoint_names):
        raise UserError(f"{train.path} and {held_out.path} declare different keypoints: make them the same")


def keypoint_lines(result: dict[str, Any]) -> Iterator[str]:
    """What `KeypointEvaluator.result` says, line by line."""
    boxes = coco_lines(result)
    yield f"boxes   {next(boxes)}"
    yield "points  " + "  ".join(f"{name.removeprefix('OKS_')} {result[name]:.3f}" for name in NUMBERS)
    yield from boxes
