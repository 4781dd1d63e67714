"""Instance segmentation: boxes with classes and the mask of each object, measured by the COCO protocol on masks."""

from __future__ import annotations

from dataclasses import replace

from detect.tasks import detect
from detect.tasks.base import Late

TASK = replace(
    detect.TASK,
    name="segment",
    noun="instance segmenter",
    metric="mask_AP",
    evaluator=Late("detect.evaluation.masks:MaskEvaluator"),
    defaults={"model": "yolo_n_seg"},
    options={**detect.TASK.options, "evaluate": (*detect.TASK.options["evaluate"], "boundary")},
    counts_degenerate_boxes=False,
    outlines=Late("detect.data.outline_checks:outlined"),
    progress_metrics=("AP", "mask_AP", "mask_AP50"),
    summary_lines=Late("detect.evaluation.masks:mask_lines"),
    export=None,
    curves=("AP", "mask_AP", "mask_AP50", "mask_AP75"),
)
