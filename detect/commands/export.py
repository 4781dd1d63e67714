"""`detect export`: write weights as a file that other programs run, checked against PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Count, Registered, Share, ShareOrUnset, SideOrDefault
from detect.errors import UserError
from detect.hub import resolve
from detect.registry import REGISTRIES
from detect.utils.atomic_io import replace_file, temporary_folder
from detect.utils.locks import locked_files
from detect.utils.names import say

if TYPE_CHECKING:
    from detect.export.formats import ExportFormat


@dataclass(frozen=True)
class ExportConfig:
    """Export weights to ONNX, OpenVINO or TorchScript.

    The file is compared with PyTorch on real images before it is written.
    """

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    weights: str
    """Weights: a file, or a name of `detect weights`."""
    format: Annotated[str, Registered("export")] = "onnx"
    """File format."""
    out: str = ""
    """File to write. Default: the name of the weights, with the suffix of the format."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the training size."""
    dynamic: bool = False
    """Leave the batch size open, and the image size of detectors. Default: one square image."""
    nms: bool = False
    """Put NMS into the file, with --conf, --iou and --max-det. Otherwise these are only stored beside the classes."""
    half: bool = False
    """Compute in float16."""
    int8: bool = False
    """Compute in int8, calibrated on training images of --data."""
    int8_exclude: list[str] = field(default_factory=list)
    """Layers that --int8 leaves in float32, by name or part of the network (head, backbone.stages.0), or auto: the most
    sensitive ones, found on images of --data, as many as the check needs."""
    data: str = ""
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals. Its images
    calibrate and check the file; required with --half and --int8."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""
    split: str = "val"
    """Split whose images check the file."""
    conf: ShareOrUnset = None
    """Confidence threshold; default: that of the weights, else 0.25. Detections with a lower score are dropped. Weights
    have thresholds of their own, one for each class, from `detect evaluate --save-thresholds`."""
    iou: Share = 0.7
    """IoU threshold of NMS. Of two boxes of a class that overlap more, the lower-scored one is dropped."""
    max_det: Count = 300
    """Most detections in an image."""


def export(config: ExportConfig) -> Path:
    """Export weights, if the results of the file match PyTorch's on real images.

    Returns:
        The file.

    Raises:
        UserError: the model or the options do not suit the format, or the results differ.
    """
    from detect.cli.applicability import refuse_unused
    from detect.convert.open import open_model
    from detect.export import exporter
    from detect.export.comparison import sample_images, verify
    from detect.export.forms import is_square, require_exportable
    from detect.export.runtime import open_exported

    _refuse(config)
    model = open_model(resolve(config.weights))
    refuse_unused("export", config, model.task)
    require_exportable(model, config.weights)
    about, fused = exporter.about_export(config, model), model.fused()
    kind: type[ExportFormat] = REGISTRIES["export"][config.format]
    out = Path(config.out or Path(config.weights).with_suffix(kind.suffix))
    beside = [out.with_suffix(suffix) for suffix in kind.companions]
    with locked_files(out, *beside, kind="exported"), temporary_folder() as folder:
        path = folder / out.name
        exporter.write(config, model, about, path)
        said = verify(
            fused, open_exported(path, "cpu", kind().precisions()[0]), sample_images(config, config.split, model.task)
        )
        for file in sorted(folder.iterdir()):  # the weights (.bin) before what names them (.xml)
            replace_file(out.with_suffix(file.suffix), partial(shutil.copyfile, file))
    say(f"{out}: {said}")
    if about.square and not is_square(model):
        size = about.metadata.size
        say(f"its canvas is {size} px square in {about.precision}; --dynamic keeps those of detect predict")
    return out


def _refuse(config: ExportConfig) -> None:
    """Raise a UserError for options that exclude one another."""
    from detect.export.runtime import is_exported

    if is_exported(config.weights):
        raise UserError(f"{config.weights} is an exported file: give the weights that it was made of")
    if config.half and config.int8:
        raise UserError("--half and --int8 exclude one another: give one")
    if config.int8_exclude and not config.int8:
        raise UserError("--int8-exclude is for --int8: give both, or neither")
    if (config.half or config.int8) and not config.data:
        raise UserError("--half and --int8 are checked on images with objects: give --data")
    kinds: Mapping[str, type[ExportFormat]] = REGISTRIES["export"]
    kind = kinds[config.format]
    if not kind.has_operators and (config.nms or config.int8):
        able = " and ".join(name for name, one in kinds.items() if one.has_operators)
        raise UserError(f"--nms and --int8 are for --format {able}: {config.format} has no such operators")
    if not config.out and Path(config.weights).suffix == kind.suffix:
        raise UserError(f"--weights {config.weights} has the name that the exported file would get: give --out")
    if config.out and Path(config.out).suffix != kind.suffix:
        raise UserError(f"--out {config.out}: a --format {config.format} file ends in {kind.suffix}")
