"""Classification: the class of each crop, or of each signal or volume."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from detect.errors import UserError
from detect.tasks.base import Evaluation, ExportForm, Late, Task, sample_loader

if TYPE_CHECKING:
    from torch import Tensor

    from detect.api import Detector
    from detect.commands.evaluate import EvaluateConfig
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.types import Postprocess, Preprocess


def training_data(annotations: Annotations, config: TrainConfig, preprocess: Preprocess, cache_gb: float) -> Any:
    """Augmented crops; the records themselves where the data holds signals or volumes."""
    augment, balanced = config.augment if config.augment.on else None, config.balance == "sampling"
    return annotations.class_dataset(config.imgsz, augment, config.seed, preprocess, cache_gb, balanced)


def eval_samples(annotations: Annotations, size: int, preprocess: Preprocess, cache_gb: float) -> Any:
    """The crops or records as they are; crops on square canvases."""
    return annotations.class_dataset(size, preprocess=preprocess, cache_gb=cache_gb)


def make_evaluator(annotations: Annotations, names: Sequence[str] = ()) -> Any:
    """The evaluator of the crops; `names` as in `ClassEvaluator`."""
    from detect.data.datasets.crops import Crops
    from detect.evaluation.classification import ClassEvaluator

    return ClassEvaluator(Crops.of(annotations), names)


def evaluate(config: EvaluateConfig, members: Sequence[Detector], postprocess: Postprocess) -> Evaluation:
    """Evaluate the mean of the members' probabilities.

    Classes that only the weights know get labels after those of the annotations: predicting one is always wrong.

    Raises:
        UserError: the members have different classes, or do not fit the data.
    """
    import torch

    from detect.data.datasets.signals import require_fit
    from detect.evaluation.class_matching import labels_of
    from detect.evaluation.evaluate import open_split
    from detect.evaluation.multi_crop import mean_scores
    from detect.inference.class_ensemble import require_same_classes
    from detect.models.classifier import top_classes
    from detect.types import Classification

    first, names = members[0], members[0].names
    require_same_classes(members, config.weights)
    annotations = open_split(config, TASK)
    for member in members:
        require_fit(annotations, member.dims, member.channels)
    if annotations.dims != 2 and (config.crops > 1 or config.imgsz):
        raise UserError(f"--crops and --imgsz are for images, and {annotations.path} holds none: leave them out")
    labels = labels_of(first.metadata, annotations)
    unknown = labels < 0
    every = [*annotations.names, *(name for name, lost in zip(names, unknown.tolist(), strict=True) if lost)]
    labels[unknown] = torch.arange(len(annotations.names), len(every))
    evaluator = make_evaluator(annotations, every)
    ids, scores = mean_scores(config, members, annotations)
    evaluator.probabilities = scores[:, labels.argsort()].numpy() if len(labels) == len(every) else None
    evaluator.update(ids, [Classification(one.scores, labels[one.labels]) for one in top_classes(scores, postprocess)])
    amount = f"{len(ids)} {'crops' if annotations.dims == 2 else 'records'}"
    return Evaluation(annotations, evaluator, str(annotations.path), amount)


def decode(outputs: Sequence[Tensor], postprocess: Postprocess) -> list[Any]:
    """The classes of each image, top_classes first."""
    from detect.models.classifier import top_classes

    return top_classes(outputs[0], postprocess)


def same_best_class(a: Any, b: Any, iou: float) -> int:
    """All classes agree where the top_classes one does, none otherwise."""
    return len(a) if a.labels[0] == b.labels[0] else 0


TASK = Task(
    name="classify",
    noun="classifier",
    metric="top1",
    evaluator=make_evaluator,
    defaults={"model": "resnet18", "imgsz": "224"},
    options={
        "train": ("balance", "augment.stylized", "augment.crop"),
        "predict": ("crops",),
        "evaluate": ("crops", "examples", "save_calibration", "calibration"),
    },
    image_level_labels="images",
    check_data=Late("detect.data.datasets.crops:require_classes"),
    training_data=training_data,
    eval_loader=partial(sample_loader, eval_samples),
    evaluate=evaluate,
    progress_metrics=("top1", "top5"),
    summary_lines=Late("detect.evaluation.classification:class_lines"),
    results_file="classes.json",
    record_fields=("category_id", "category", "score"),
    prints_results=True,
    export=ExportForm(
        outputs={"scores": ("classes",)},
        tensors=lambda model, raw: (model.scores(raw),),
        decode=decode,
        matches=same_best_class,
    ),
    curves=("top1", "top5"),
    judged=Late("detect.evaluation.calibration:judged_classes"),
    calibrate=Late("detect.evaluation.calibrate:calibrate_classes"),
    report_section=Late("detect.report.classification:class_section"),
)
