"""From a model to a file that another program runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from detect.commands.export import ExportConfig
from detect.export.comparison import pictures
from detect.export.forms import form_of, is_square
from detect.export.metadata import About
from detect.export.quantize import quantized
from detect.export.writers import halved, to_onnx, write_onnx, write_openvino, write_torchscript
from detect.models.base import Model
from detect.utils.atomic_io import temporary_folder


def write(config: ExportConfig, model: Model, about: About, path: Path) -> None:
    fused = model.fused().to(memory_format=torch.contiguous_format)
    if config.half:
        fused = halved(fused)
    if config.format == "torchscript":
        return write_torchscript(fused, about, path)
    graph = to_onnx(fused, about)
    with temporary_folder() as folder:
        if config.int8:
            graph = quantized(graph, about, pictures(config, "train", model.task, 128), folder)
        if config.format == "onnx":
            return write_onnx(graph, about, path)
        source = folder / "model.onnx"
        write_onnx(graph, about, source)
        return write_openvino(source, about, path)


def about_export(config: ExportConfig, model: Model) -> About:
    metadata = replace(model.metadata, size=config.imgsz or model.metadata.size)
    return About(
        model=model.config.name,
        task=model.task,
        metadata=metadata,
        outputs=list(form_of(model.task).outputs),
        square=is_square(model) or not config.dynamic,
        dynamic=config.dynamic,
        suppressed=config.nms,
        precision="int8" if config.int8 else "float16" if config.half else "float32",
        conf=config.conf,
        iou=config.iou,
        max_det=config.max_det,
    )
