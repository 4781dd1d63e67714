"""Instance segmentation: boxes with classes and the mask of each object, measured by the COCO protocol on masks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from detect.tasks import detect
from detect.tasks.base import ExportForm, Late

if TYPE_CHECKING:
    from torch import Tensor

PROTOTYPES = 32  # as `detect.models.heads.masks` has it


def fields(coefficients: Tensor, prototypes: Tensor) -> dict[str, Any]:
    """See `ExportForm.fields`."""
    from detect.prototype_masks import PrototypeMasks

    return {"masks": PrototypeMasks(prototypes, coefficients)}


TASK = replace(
    detect.TASK,
    record_fields=(*detect.BOX_FIELDS, "segmentation"),
    name="segment",
    noun="instance segmenter",
    metric="mask_AP",
    evaluator=Late("detect.evaluation.masks:MaskEvaluator"),
    defaults={"model": "yolo_n_seg"},
    options={
        **detect.TASK.options,
        "evaluate": (*detect.TASK.options["evaluate"], "boundary"),
        "predict": (*detect.TASK.options["predict"], "save_masks", "remove_background", "show_boxes"),
        "label": (*detect.LABEL, "simplify"),
    },
    counts_degenerate_boxes=False,
    outlines=Late("detect.data.outline_checks:outlined"),
    training_data=partial(detect.training_data, finish=Late("detect.data.augment.finish:with_masks")),
    progress_metrics=("AP", "mask_AP", "mask_AP50"),
    summary_lines=Late("detect.evaluation.masks:mask_lines"),
    export=ExportForm(
        outputs={
            "boxes": (4,),
            "scores": ("classes",),
            "coefficients": (PROTOTYPES,),
            "prototypes": (PROTOTYPES, "any", "any"),
        },
        tensors=lambda model, raw: (*model.candidates(raw), raw.coefficients, raw.prototypes),
        decode=partial(detect.decode, fields=fields),
        rows=True,
        shared=("prototypes",),
        overlaps=Late("detect.export.comparison:mask_overlaps"),
        fields=fields,
    ),
    curves=("AP", "mask_AP", "mask_AP50", "mask_AP75"),
)
