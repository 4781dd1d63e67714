"""Detection: boxes with classes, any number in an image, measured by the COCO protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from detect.models.configs.sliding_window import SlidingWindowConfig
from detect.tasks.base import IMAGE_OPTIONS, ExportForm, Late, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from detect.commands.evaluate import EvaluateConfig
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.types import Postprocess, Preprocess, Target


BOX_FIELDS = ("category_id", "category", "bbox", "score")
FUSION = ("fusion.method", "fusion.iou", "fusion.skip", "fusion.weights")  # of evaluate, predict, bulk and label
BULK = ("iou", "agnostic", "soft", "tta", "tile", *FUSION)  # of detect bulk, and of label and predict
LABEL = (*BULK, "track")  # of detect label, and of predict
JUDGED = Late("detect.evaluation.calibration:judged_detections")
CALIBRATE = Late("detect.evaluation.calibrate:calibrate_detections")
CALIBRATION = ("save_calibration", "calibration")  # of detect evaluate
TARGETS = ("target_precision", "target_recall", "guarantee")  # of detect evaluate
THRESHOLDS = ("examples", *TARGETS, "save_thresholds", *CALIBRATION)  # likewise


def training_data(
    annotations: Annotations,
    config: TrainConfig,
    preprocess: Preprocess,
    cache_gb: float,
    points: bool = False,
    finish: Callable[[Target], Target] | None = None,
) -> Any:
    """Augmented images with their boxes, or pieces of images for a model that learns from windows.

    Args:
        annotations: the training set.
        config: image size, augmentation, class balance and seed.
        preprocess: how images become numbers.
        cache_gb: gigabytes of decoded images that are kept.
        points: whether keypoints go along. Without them mirror pairs are not needed.
        finish: makes what the task learns of the outlines of an augmented target: a function of
            `detect.data.augment.finish`, or one like them. Every object then needs an outline (see `Task.outlines`).
            Default: outlines do not go along.

    Raises:
        UserError: every box is too small at this image size.
    """
    from detect.data.datasets.detection import CocoDataset
    from detect.data.datasets.outlined import OutlinedDataset
    from detect.data.sampling import repeat_factors, repeated
    from detect.data.validate import require_large

    augment, balanced = config.augment if config.augment.on else None, config.balance == "sampling"
    if isinstance(config.model, SlidingWindowConfig):
        from detect.data.datasets.windows import WindowDataset

        size, window, scale = config.imgsz, config.model.window, config.model.crop_scale
        return WindowDataset(annotations, size, window, scale, augment, config.seed, preprocess, cache_gb, balanced)
    require_large(annotations, config.imgsz, preprocess.stretch)
    if not points:
        annotations = replace(annotations, keypoints=None, keypoint_names=[])
    order = repeated(repeat_factors(annotations, config.repeat), config.seed) if balanced else None
    options = config.imgsz, augment, config.seed, config.epochs, preprocess, cache_gb, order
    if finish is None:
        return CocoDataset(annotations, *options)
    return OutlinedDataset(finish, annotations, *options)


def postprocess(config: EvaluateConfig | None = None) -> Postprocess:
    """The limits of the COCO protocol, which considers 100 detections an image, or those of `detect evaluate`."""
    from detect.types import Postprocess

    if config is None:
        return Postprocess(score=0.001, iou=0.7, limit=100)
    return Postprocess(config.conf, config.iou, config.max_det)


def decode(
    outputs: Sequence[Tensor], postprocess: Postprocess, fields: Callable[..., Mapping[str, Any]] = dict
) -> list[Any]:
    """Detections for each image.

    Args:
        outputs: boxes (B, A, 4), scores (B, A, C) and others.
        postprocess: which detections are kept.
        fields: see `ExportForm.fields`.
    """
    from detect.models.yolo import select_detections

    images = zip(*outputs, strict=True)
    return [select_detections(boxes, scores, postprocess, **fields(*more)) for boxes, scores, *more in images]


TASK = Task(
    name="detect",
    noun="detector",
    metric="AP",
    evaluator=Late("detect.evaluation.coco:CocoEvaluator"),
    options={
        "train": IMAGE_OPTIONS,
        "evaluate": ("conf", "iou", "max_det", "tta", "tile", "detections", *THRESHOLDS, *FUSION),
        "predict": (*LABEL, "save_txt", "save_crop"),
        "bulk": BULK,
        "label": LABEL,
        "export": ("nms", "conf", "iou", "max_det"),
    },
    counts_degenerate_boxes=True,
    check_data=Late("detect.data.validate:require_objects"),
    training_data=training_data,
    postprocess=postprocess,
    match_classes=Late("detect.evaluation.class_matching:as_coco"),
    progress_metrics=("AP", "AP50"),
    summary_lines=Late("detect.evaluation.coco:coco_lines"),
    views=Late("detect.inference.views:detection_views"),
    fuse=Late("detect.inference.detection_fusion:DetectionFusion"),
    results_file="detections.json",
    record_fields=BOX_FIELDS,
    detects_objects=True,
    export=ExportForm(
        outputs={"boxes": (4,), "scores": ("classes",)},
        tensors=lambda model, raw: model.candidates(raw),
        decode=decode,
        rows=True,
    ),
    curves=("AP", "AP50", "AP75"),
    judged=JUDGED,
    calibrate=CALIBRATE,
    report_section=Late("detect.report.detections:detection_section"),
)
