"""Localization: whether an image shows an object, its class and its box; at most one an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from detect.tasks import detect
from detect.tasks.base import ExportForm, Late, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.types import Postprocess, Preprocess


def training_data(annotations: Annotations, config: TrainConfig, preprocess: Preprocess, cache_gb: float) -> Any:
    """Augmented images with their boxes, without the augmentations that join several images."""
    augment = replace(config.augment, mosaic=0.0, mixup=0.0)
    return detect.training_data(annotations, replace(config, augment=augment), preprocess, cache_gb)


def decode(outputs: Sequence[Tensor], postprocess: Postprocess) -> list[Any]:
    """Detections, at most one, for each image."""
    from detect.models.heads.single_object import LocalizerOutput
    from detect.models.localizer import localizer_detections

    return localizer_detections(LocalizerOutput(*outputs), postprocess)


TASK = Task(
    name="localize",
    noun="localizer",
    metric="localized",
    evaluator=Late("detect.evaluation.localization:LocalizationEvaluator"),
    defaults={"model": "localizer", "imgsz": "256"},
    options={
        "train": ("balance", "repeat", "augment.visibility", "augment.stylized", "augment.crop"),
        "evaluate": ("detections", "examples"),
        "predict": ("save_txt", "save_crop"),
    },
    check_data=Late("detect.data.validate:require_objects"),
    training_data=training_data,
    progress_metrics=("localized", "presence", "class_accuracy", "iou"),
    summary_lines=Late("detect.evaluation.localization:localization_lines"),
    results_file="detections.json",
    record_fields=("category_id", "category", "bbox", "score"),
    export=ExportForm(
        outputs={"presence": (), "boxes": (4,), "logits": ("classes",)},
        tensors=lambda model, raw: raw,
        decode=decode,
    ),
    report_section=Late("detect.report.localization:localization_section"),
)
