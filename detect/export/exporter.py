"""From a model to a file that another program runs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from detect.commands.export import ExportConfig
from detect.export.formats import ExportFormat
from detect.export.forms import form_of, is_square
from detect.export.int8 import to_int8
from detect.export.metadata import About
from detect.export.writers import halved
from detect.models.base import Model
from detect.registry import REGISTRIES
from detect.types import ConfidenceThresholds


def write(config: ExportConfig, model: Model, about: About, path: Path) -> None:
    """Write the model in the format and the precision that `config` names."""
    fused = model.fused().to(memory_format=torch.contiguous_format)
    if config.half:
        fused = halved(fused)
    kind: type[ExportFormat] = REGISTRIES["export"][config.format]
    kind().write(fused, about, path, partial(to_int8, config, about))


def about_export(config: ExportConfig, model: Model) -> About:
    confidence, calibration = model.metadata.confidence if config.conf is None else None, model.metadata.calibration
    if calibration and calibration.maps_scores and confidence is None:  # `About.conf` is before calibration
        each = model.metadata.thresholds_of(config.conf)
        confidence = ConfidenceThresholds(min(each), each, f"--conf {min(each):g} of the export")
    metadata = replace(model.metadata, size=config.imgsz or model.metadata.size, confidence=confidence)
    return About(
        model=model.config.name,
        task=model.task,
        metadata=metadata,
        outputs=list(form_of(model.task).outputs),
        square=is_square(model) or not config.dynamic,
        dynamic=config.dynamic,
        suppressed=config.nms,
        precision="int8" if config.int8 else "float16" if config.half else "float32",
        conf=metadata.postprocess(config.conf).score,
        iou=config.iou,
        max_det=config.max_det,
    )
