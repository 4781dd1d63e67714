"""`detect import`: convert Darknet's or YOLOX's weights into a weights file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detect.config.constraints import SideOrDefault
from detect.errors import UserError
from detect.utils.locks import locked_files, under
from detect.utils.names import require_names, say
from detect.utils.text_files import read_text

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata
    from detect.types import Preprocess


@dataclass(frozen=True)
class ImportWeightsConfig:
    """Convert published weights, of Darknet or YOLOX, into a weights file."""

    weights: str
    """Published file: .weights of Darknet, .onnx or .pth of YOLOX."""
    out: str
    """Weights file to write (.safetensors)."""
    cfg: str = ""
    """Network description of Darknet weights (.cfg)."""
    names: str = ""
    """File with one class name on each line. Default: the 80 classes of COCO."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the size the network was made for."""


@under(lambda config: locked_files(config.out, kind="weights"))
def import_weights(config: ImportWeightsConfig) -> Path:
    """Write the weights file `config.out`; returns it. Raises UserError for a file that cannot be understood."""
    from detect.models.weights import save_weights

    path, out = Path(config.weights), Path(config.out)
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors")
    if not path.is_file():
        raise UserError(f"--weights {path}: there is no such file")
    model = _model(config, path)
    save_weights(out, model)
    say(_said(model, out))
    return out


def _model(config: ImportWeightsConfig, path: Path) -> Model:
    from detect.convert.darknet import import_darknet
    from detect.convert.yolox import READERS, import_yolox

    metadata = partial(_metadata, config)
    if path.suffix in READERS:
        if config.cfg:
            raise UserError(f"--cfg is for Darknet's .weights, and {path} is none: leave it out")
        return import_yolox(path, metadata)
    if not config.cfg:
        raise UserError(f"--weights {path}: give the --cfg of Darknet weights, or a .onnx or .pth file of YOLOX")
    return import_darknet(Path(config.cfg), path, metadata)


def _said(model: Model, out: Path) -> str:
    count, metadata = sum(p.numel() for p in model.parameters()), model.metadata
    return (
        f"{out}: {model.config.name}, {count / 1e6:.2f} M parameters, {len(metadata.names)} classes, {metadata.size} px"
    )


def _metadata(config: ImportWeightsConfig, classes: int, size: int, pixels: Preprocess) -> ModelMetadata:
    """The metadata of a network for so many classes. Raises UserError where their names are not known."""
    from detect.convert import coco_classes as coco
    from detect.models.base import ModelMetadata

    names = _names(Path(config.names)) if config.names else coco.NAMES
    if len(names) != classes:
        where = config.names or "COCO, the default of --names,"
        raise UserError(f"{where} has {len(names)} classes, the network {classes}: give --names with that many lines")
    ids = coco.IDS if names == coco.NAMES else list(range(1, classes + 1))
    return ModelMetadata(list(names), list(ids), config.imgsz or size, pixels)


def _names(path: Path) -> list[str]:
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return require_names(names, range(len(names)), f"--names {path}")
