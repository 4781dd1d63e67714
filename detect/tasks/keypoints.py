"""Keypoints: boxes with named points in each, measured by object keypoint similarity (OKS)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from detect.tasks import detect
from detect.tasks.base import IMAGE_OPTIONS, ExportForm, Late

if TYPE_CHECKING:
    from torch import Tensor


def fields(points: Tensor) -> dict[str, Tensor]:
    """See `ExportForm.fields`."""
    return {"keypoints": points}


TASK = replace(
    detect.TASK,
    record_fields=(*detect.BOX_FIELDS, "keypoints"),
    name="keypoints",
    noun="keypoint detector",
    metric="OKS_AP",
    evaluator=Late("detect.evaluation.oks:KeypointEvaluator"),
    options={
        **detect.TASK.options,
        "train": (*IMAGE_OPTIONS, "augment.flip_pairs"),
        "evaluate": ("conf", "iou", "max_det", "detections", *detect.THRESHOLDS, *detect.FUSION),
        "predict": ("iou", "agnostic", "soft", "track", "save_txt", "save_crop", *detect.FUSION),
        "bulk": ("iou", "agnostic", "soft", *detect.FUSION),
        "label": ("iou", "agnostic", "soft", "track", *detect.FUSION),
    },
    check_data=Late("detect.evaluation.oks:require_keypoints"),
    training_data=partial(detect.training_data, points=True),
    match_keypoints=Late("detect.evaluation.class_matching:points_by_name"),
    progress_metrics=("AP", "OKS_AP", "OKS_AP50"),
    summary_lines=Late("detect.evaluation.oks:keypoint_lines"),
    export=ExportForm(
        outputs={"boxes": (4,), "scores": ("classes",), "points": ("keypoints", 3)},
        tensors=lambda model, raw: (*model.candidates(raw), model.head.keypoints(raw)),
        decode=partial(detect.decode, fields=fields),
        rows=True,
        fields=fields,
    ),
    curves=("AP", "AP50", "AP75", "OKS_AP"),
)
