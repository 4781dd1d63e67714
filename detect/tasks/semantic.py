"""Semantic segmentation: the class of each pixel, measured by the IoU of the classes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
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
    """Augmented images with the class of each pixel; what is seen of an object counts, however little."""
    from detect.data.pixel_labels import with_label_map

    finish = partial(with_label_map, background=len(annotations.names))
    config = replace(config, augment=replace(config.augment, visibility=0.0, mixup=0.0))
    return detect.training_data(annotations, config, preprocess, cache_gb, finish=finish)


def decode(outputs: Sequence[Tensor], postprocess: Postprocess) -> list[Any]:
    """The scores of each image, which become a class map in pixels of the source."""
    from detect.semantic import CanvasScores

    return [CanvasScores(one, postprocess.classes) for one in outputs[0]]


TASK = Task(
    name="semantic",
    noun="semantic segmenter",
    metric="mIoU",
    evaluator=Late("detect.evaluation.semantic:SemanticEvaluator"),
    defaults={"model": "unet", "imgsz": "512"},
    options={
        "train": ("balance", "repeat", "augment.mosaic", "augment.mosaic_off", "augment.stylized", "augment.crop"),
        "evaluate": ("examples", "tta", "tile"),
        "predict": ("save_masks", "tta", "tile"),
    },
    outlines=Late("detect.data.pixel_labels:layered"),
    check_data=Late("detect.data.pixel_labels:require_pixels"),
    training_data=training_data,
    match_classes=Late("detect.evaluation.semantic:pixel_classes"),
    progress_metrics=("mIoU", "pixel_accuracy"),
    summary_lines=Late("detect.evaluation.semantic:semantic_lines"),
    views=Late("detect.inference.views:semantic_views"),
    results_file="segments.json",
    record_fields=("category_id", "category", "area", "segmentation"),
    labels_pixels=True,
    export=ExportForm(
        outputs={"logits": ("classes and background", "any", "any")},
        tensors=lambda model, raw: raw,
        decode=decode,
        matches=Late("detect.semantic:matching_classes"),
    ),
    curves=("mIoU", "pixel_accuracy", "mean_accuracy"),
    report_section=Late("detect.report.semantic:semantic_section"),
)
