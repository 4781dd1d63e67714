"""`detect export`: weights to a file of another format, written only where it says what torch says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from detect.cli.applicability import refuse_unused
from detect.config.options import ExportConfig
from detect.errors import UserError
from detect.export.comparison import pictures, verify
from detect.export.forms import FORMS, is_square, require_exportable
from detect.export.metadata import About
from detect.export.quantize import quantized
from detect.export.runtime import is_exported, open_exported
from detect.export.writers import SUFFIXES, halved, to_onnx, write_onnx, write_openvino, write_torchscript
from detect.models.base import Model
from detect.models.weights import load_weights
from detect.utils.atomic_io import replace_file, temporary_folder
from detect.utils.locks import locked_files
from detect.utils.names import say


def export(config: ExportConfig) -> Path:
    """Write the weights as --format says, checked on real pictures; returns the file."""
    _refuse(config)
    model = load_weights(config.weights)
    refuse_unused("export", config, model.task)
    require_exportable(model, config.weights)
    about, fused = _about(config, model), model.fused()
    out = Path(config.out or Path(config.weights).with_suffix(SUFFIXES[config.format]))
    weights = out.with_suffix(".bin") if config.format == "openvino" else ""
    with locked_files(out, weights, kind="exported"), temporary_folder() as folder:
        path = folder / out.name
        _write(config, model, about, path)
        said = verify(fused, open_exported(path, "cpu"), pictures(config, config.split, model.task))
        for file in sorted(folder.iterdir()):  # the weights (.bin) before what names them (.xml)
            replace_file(out.with_suffix(file.suffix), partial(shutil.copyfile, file))
    say(f"{out}: {said}")
    if about.square and not is_square(model):
        size = about.metadata.size
        say(f"its canvas is {size} px square in {about.precision}; --dynamic keeps those of detect predict")
    return out


def _write(config: ExportConfig, model: Model, about: About, path: Path) -> None:
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


def _about(config: ExportConfig, model: Model) -> About:
    metadata = replace(model.metadata, size=config.imgsz or model.metadata.size)
    return About(
        model=model.config.name,
        task=model.task,
        metadata=metadata,
        outputs=list(FORMS[model.task].names),
        square=is_square(model) or not config.dynamic,
        dynamic=config.dynamic,
        suppressed=config.nms,
        precision="int8" if config.int8 else "float16" if config.half else "float32",
        conf=config.conf,
        iou=config.iou,
        max_det=config.max_det,
    )


def _refuse(config: ExportConfig) -> None:
    """Raises UserError for flags that do not go together."""
    if is_exported(config.weights):
        raise UserError(f"{config.weights} is an exported file: give the weights it came from")
    if config.half and config.int8:
        raise UserError("--half and --int8 exclude one another: give one")
    if (config.half or config.int8) and not config.data:
        raise UserError("--half and --int8 are judged on pictures with objects in them: give --data")
    if config.format == "torchscript" and (config.nms or config.int8):
        raise UserError("--nms and --int8 are for --format onnx and openvino: torch alone has no such operators")
    suffix = SUFFIXES[config.format]
    if config.out and Path(config.out).suffix != suffix:
        raise UserError(f"--out {config.out}: a file of --format {config.format} ends in {suffix}")
