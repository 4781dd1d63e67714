"""`detect import`: convert published weights into a weights file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detect.config.constraints import SideOrDefault
from detect.errors import UserError
from detect.hub import resolve
from detect.utils.locks import locked_files, under
from detect.utils.names import require_names, say
from detect.utils.text_files import read_text

if TYPE_CHECKING:
    from detect.models.base import Model


@dataclass(frozen=True)
class ImportWeightsConfig:
    """Convert published weights into a weights file.

    Commands that take --weights read published files themselves; converting gives them class names or another size.
    """

    weights: str
    """Published file: .weights of Darknet, .onnx or .pth of YOLOX, .onnx of PicoDet, .pth of torchvision (Faster R-CNN,
    Mask R-CNN, classifiers); or a name of `detect weights`."""
    out: str
    """Weights file to write (.safetensors)."""
    cfg: str = ""
    """Network description of Darknet weights (.cfg). Default: the file of the same name beside them."""
    names: str = ""
    """File with one class name on each line. Default: the classes that the network was published with."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the size the network was made for."""


@under(lambda config: locked_files(config.out, kind="weights"))
def import_weights(config: ImportWeightsConfig) -> Path:
    """Write the weights file `config.out`; returns it. Raises UserError for a file that cannot be understood."""
    from detect.convert.open import import_model
    from detect.convert.published import ONNX, TORCH, PublishedFile
    from detect.models.weights import is_ours, save_weights

    out = Path(config.out)
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors")
    path = resolve(config.weights)
    if not path.is_file():
        raise UserError(f"--weights {path}: there is no such file")
    if is_ours(path):
        raise UserError(f"--weights {path} is a weights file of gridhead's already: every command takes it as it is")
    if config.cfg and path.suffix in (*ONNX, *TORCH):
        raise UserError(f"--cfg is for Darknet's .weights, and {path} is none: leave it out")
    cfg = Path(config.cfg) if config.cfg else None
    names = _names(Path(config.names)) if config.names else None
    model = import_model(PublishedFile(path, cfg, names, config.imgsz))
    save_weights(out, model)
    say(_said(model, out))
    return out


def _said(model: Model, out: Path) -> str:
    count, metadata = sum(p.numel() for p in model.parameters()), model.metadata
    return (
        f"{out}: {model.config.name}, {count / 1e6:.2f} M parameters, {len(metadata.names)} classes, {metadata.size} px"
    )


def _names(path: Path) -> list[str]:
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return require_names(names, range(len(names)), f"--names {path}")
