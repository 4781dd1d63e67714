"""Oriented boxes: boxes that turn with their objects, measured over rotated IoU as COCO and DOTA measure boxes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from detect.tasks import detect
from detect.tasks.base import ExportForm, Late

TASK = replace(
    detect.TASK,
    record_fields=(*detect.BOX_FIELDS, "corners", "angle"),
    name="obb",
    noun="detector of oriented boxes",
    evaluator=Late("detect.evaluation.oriented:OrientedEvaluator"),
    defaults={"model": "yolo_n_obb"},
    options={
        **detect.TASK.options,
        **{
            command: tuple(name for name in detect.TASK.options[command] if name != "soft")
            for command in ("predict", "bulk", "label")
        },
    },
    counts_degenerate_boxes=False,
    outlines=Late("detect.data.oriented_outlines:oriented_outlines"),
    training_data=partial(detect.training_data, finish=Late("detect.data.augment.finish:with_oriented")),
    summary_lines=Late("detect.evaluation.oriented:oriented_lines"),
    progress_metrics=("AP", "AP50", "DOTA_AP50"),
    export=ExportForm(
        outputs={"oriented": (5,), "scores": ("classes",)},
        tensors=lambda model, raw: model.candidates(raw),
        decode=detect.decode,
        rows=True,
    ),
)
