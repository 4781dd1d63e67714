"""The options `--protocol.*` of `detect evaluate`: what they mean for an evaluation, and what its header says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detect.config.protocol import ProtocolConfig
from detect.errors import UserError
from detect.evaluation.coco_protocol import Records
from detect.evaluation.oks import KeypointEvaluator
from detect.evaluation.protocol import COCO, Protocol
from detect.tasks import Evaluation

_COLUMNS = ("boxes", "labels", "crowd", "areas", "ids", "keypoints", "outlines", "difficult")


def protocol_of(config: ProtocolConfig) -> Protocol:
    """The protocol of the options.

    Raises:
        UserError: a value is out of range, or values do not ascend.
    """
    ious = tuple(config.ious) or COCO.ious
    for flag, values, low, high in (
        ("ious", ious, 0.0, 1.0),
        ("area-edges", config.area_edges, 0.0, np.inf),
        ("max-dets", config.max_dets, 0, np.inf),
    ):
        if any(not low < value <= high for value in values) or any(np.diff(values) <= 0):
            raise UserError(f"--protocol.{flag} {list(values)}: the values must ascend, above {low:g}, up to {high:g}")
    if not config.max_dets:
        raise UserError("--protocol.max-dets []: name at least one limit")
    if any(not 0 < sigma < np.inf for sigma in config.sigmas):
        raise UserError(f"--protocol.sigmas {config.sigmas}: each must be positive")
    return Protocol(ious, tuple(config.area_edges), tuple(config.max_dets), tuple(config.sigmas) or None)


def under(config: ProtocolConfig, evaluation: Evaluation) -> Evaluation:
    """The evaluation by the protocol of the options; as it is where they are COCO's.

    Raises:
        UserError: the options cannot be used, or not for this task or data.
    """
    changed, evaluator = protocol_lines(config), evaluation.evaluator
    if not changed:
        return evaluation
    if not hasattr(evaluator, "protocol"):
        raise UserError("--protocol is for detectors, segmenters, keypoints and oriented boxes: leave it out")
    if evaluation.annotations.federation is not None:
        raise UserError(f"{evaluation.source} is federated, whose protocol is fixed: leave --protocol out")
    protocol = protocol_of(config)
    names = evaluation.annotations.keypoint_names
    if protocol.sigmas and (not isinstance(evaluator, KeypointEvaluator) or len(protocol.sigmas) != len(names)):
        raise UserError(f"--protocol.sigmas has {len(protocol.sigmas)} values, and {len(names)} keypoints are measured")
    if config.class_agnostic:
        evaluation = class_agnostic(evaluation)
    evaluation.evaluator.protocol = protocol
    return evaluation


def protocol_lines(config: ProtocolConfig) -> dict[str, Any]:
    """The options that are not COCO's, by name."""
    default, own = ProtocolConfig(), vars(config)
    return {name: value for name, value in own.items() if value != getattr(default, name) and name != "iou_type"}


def class_agnostic(evaluation: Evaluation) -> Evaluation:
    """The evaluation with all objects and detections of one class; as pycocotools with `useCats` 0."""
    annotations, evaluator = evaluation.annotations, evaluation.evaluator
    owner = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))
    order = np.lexsort((annotations.labels, owner))  # class by class, which decides between ties
    columns = {name: getattr(annotations, name) for name in _COLUMNS}
    moved = {name: column[order] for name, column in columns.items() if column is not None}
    moved["labels"] = np.zeros_like(annotations.labels)
    one = replace(annotations, **moved, names=["object"], category_ids=annotations.category_ids[:1])
    made, records = type(evaluator)(one), evaluator.records()
    if isinstance(evaluator, KeypointEvaluator):
        boxes, points = records
        merged, order = _merged(boxes)
        made.extend((merged, points[order]))
    else:
        made.extend(_merged(records)[0])
    return evaluation._replace(annotations=one, evaluator=made)


def _merged(records: Records) -> tuple[Records, np.ndarray]:
    """The records with one class, class by class in each image, and their order (N,)."""
    order = np.lexsort((records.labels, np.repeat(np.arange(len(records.counts)), records.counts)))
    masks, oriented = (None if one is None else one[order] for one in (records.masks, records.oriented))
    columns = records.boxes[order], records.scores[order], np.zeros_like(records.labels), masks, oriented
    return Records(records.image_ids, records.counts, *columns), order


def told(changed: dict[str, Any]) -> str:
    """The line that says how a protocol differs from COCO's."""
    return "not COCO's: " + ", ".join(f"{name} {_short(value)}" for name, value in changed.items())


def _short(value: Any) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, Sequence) else str(value).lower()
