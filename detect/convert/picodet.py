"""Imports PicoDet's released weights: an ONNX file whose convolutions, with folded batch norm, run in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from detect.convert.convolutions import Part, Take, fill, join, modules, swap_inputs
from detect.convert.published import PublishedFile
from detect.errors import UserError
from detect.models.backbones.blocks import CSP
from detect.models.builder import build
from detect.models.configs import model_config, shipped_names
from detect.models.configs.picodet import PicoDetConfig
from detect.models.heads.pico import PicoHead
from detect.models.pretrained import PIXELS
from detect.models.yolo import Yolo
from detect.registry import register

STRETCHED = replace(PIXELS["imagenet"], stretch=True)
STEM = (24, 3, 3, 3)  # shape of the first convolution in every size
SIDES = 4 * PicoHead.bins  # outputs of the head for a box


@register("importer", "picodet")
def import_picodet(file: PublishedFile) -> Yolo | None:
    """Import a released PicoDet with an ESNet, an .onnx file; None for one of another network.

    Raises:
        UserError: the file begins and ends like a PicoDet, but is none.
    """
    parts = file.convolutions
    config = _config(parts)
    if config is None:
        return None
    classes, size = len(parts[-1]["weight"]) - SIDES, _side(file.graph)
    model = build(config, file.metadata(classes, size, STRETCHED, folded=True))
    assert isinstance(model, Yolo)
    takes: dict[nn.Module, Take] = {}
    for stage in modules(model, CSP):  # the file has the half that bypasses the blocks first, and merges it second
        takes |= {stage.split[0]: join, stage.merge[0]: swap_inputs}
    try:
        left = iter(_separated(parts, len(config.levels), config.head_convs))
        fill(model.eval(), left, takes, 2 ** max(config.levels))
        extra = next(left, None)
    except (RuntimeError, LookupError, TypeError, StopIteration) as error:
        raise _other(file, config) from error
    if extra is not None:
        raise _other(file, config)
    return model


def _config(parts: Sequence[Part]) -> PicoDetConfig | None:
    """The configuration whose head has the width of the file's; None for the parts of another network."""
    if len(parts) < 2 or parts[0].get("weight", nn.Parameter()).shape != STEM:
        return None
    configs = [config for name in shipped_names() if isinstance(config := model_config(name), PicoDetConfig)]
    last = parts[-1].get("weight", nn.Parameter())
    wide = last.shape[1] if last.ndim == 4 and len(last) > SIDES else 0
    return next((config for config in configs if config.width == wide), None)


def _side(graph: Any) -> int:
    """The image size in pixels of the first input of an ONNX graph; 416 where it says none."""
    sides = [one.dim_value for image in graph.input[:1] for one in image.type.tensor_type.shape.dim]
    return next((side for side in sides[-1:] if 32 <= side <= 8192), 416)


def _separated(parts: Sequence[Part], levels: int, head_convs: int) -> list[Part]:
    """The convolutions as our head runs them: those that predict last, classes of all levels before their boxes."""
    each = 2 * head_convs + 1  # depthwise and pointwise, and the one that predicts
    last = {len(parts) - 1 - i * each for i in range(levels)}
    shared = [part for i, part in enumerate(parts) if i in last]
    classes = [{key: value[:-SIDES] for key, value in part.items()} for part in shared]
    boxes = [{key: value[-SIDES:] for key, value in part.items()} for part in shared]
    return [*(part for i, part in enumerate(parts) if i not in last), *classes, *boxes]


def _other(file: PublishedFile, config: PicoDetConfig) -> UserError:
    return UserError(f"{file.path} begins like {config.name}, but is another network: its other convolutions differ")
