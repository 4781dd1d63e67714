"""Landmarks: the same named points of one object in each image, such as those of a face."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from detect.tasks.base import ExportForm, Late, Task, sample_loader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from detect.commands.evaluate import EvaluateConfig
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.types import Postprocess, Preprocess


def training_data(annotations: Annotations, config: TrainConfig, preprocess: Preprocess, cache_gb: float) -> Any:
    """Augmented crops, each around the one object of its image, with the points in them."""
    from detect.data.datasets.landmarks import Instances, LandmarkDataset

    augment = config.augment if config.augment.on else None
    return LandmarkDataset(Instances.of(annotations), config.imgsz, augment, config.seed, preprocess, cache_gb)


def eval_samples(annotations: Annotations, size: int, preprocess: Preprocess, cache_gb: float) -> Any:
    """The crops as they are, on square canvases."""
    from detect.data.datasets.landmarks import Instances, LandmarkDataset

    return LandmarkDataset(Instances.of(annotations), size, preprocess=preprocess, cache_gb=cache_gb)


def metadata(annotations: Annotations, preprocess: Preprocess) -> dict[str, Any]:
    """Where the points lie on average, by which prediction aligns its second look."""
    from detect.data.datasets.landmarks import Instances

    return {"shape": Instances.of(annotations).shape(preprocess).tolist()}


def postprocess(config: EvaluateConfig | None = None) -> Postprocess:
    """Every image has one set of points, wherever they lie."""
    from detect.types import Postprocess

    return Postprocess(score=0.0, keep_empty=True)


def decode(outputs: Sequence[Tensor], postprocess: Postprocess) -> list[Any]:
    """One detection with its points for each image."""
    from detect.models.heads.single_object import LandmarkOutput
    from detect.models.landmarker import landmark_detections

    return landmark_detections(LandmarkOutput(*outputs), postprocess)


TASK = Task(
    name="landmarks",
    noun="landmarker",
    metric="-nme",
    evaluator=Late("detect.evaluation.landmarks:LandmarkEvaluator"),
    defaults={"model": "landmarker", "imgsz": "128", "augment.scale": "0.2", "augment.translate": "0.05"},
    options={
        "train": ("augment.visibility", "augment.stylized", "augment.crop", "augment.flip_pairs"),
        "evaluate": ("detections", "examples"),
        "predict": ("save_txt", "save_crop"),
    },
    check_data=Late("detect.data.datasets.landmarks:require_points"),
    training_data=training_data,
    eval_loader=partial(sample_loader, eval_samples),
    metadata=metadata,
    postprocess=postprocess,
    match_classes=Late("detect.evaluation.landmarks:one_class"),
    match_keypoints=Late("detect.evaluation.class_matching:points_by_name"),
    progress_metrics=("nme", "failures", "auc"),
    summary_lines=Late("detect.evaluation.landmarks:landmark_lines"),
    results_file="detections.json",
    record_fields=("category_id", "category", "bbox", "score", "keypoints"),
    export=ExportForm(
        outputs={"points": ("keypoints", 2), "presence": ()},
        tensors=lambda model, raw: raw[:2],
        decode=decode,
    ),
    report_section=Late("detect.report.landmarks:landmark_section"),
)
