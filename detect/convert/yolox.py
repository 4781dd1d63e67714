"""Imports YOLOX's released weights: the convolutions of the file, in the order they run, are those of our network.

An ONNX file holds its convolutions in that order, with batch normalization folded in; a .pth file has names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from detect.convert.convolutions import NORM, Part, Take, fill, join, join_reversed, modules, swap_inputs
from detect.convert.published import PublishedFile
from detect.errors import UserError
from detect.models.backbones.blocks import CSP
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config, shipped_names
from detect.models.configs.yolox import YoloxConfig
from detect.models.yolo import Yolo
from detect.registry import register
from detect.types import Preprocess

PIXELS = Preprocess(order="BGR", scale=1.0, pad=114, alignment="topleft")
SMALL = 416  # image size of the two smallest models; that of the others is 640
# The order in which the parts run, by the start of their names; a level of the head is one part.
_RUN = ["stem", "dark2", "dark3", "dark4", "dark5", "lateral_conv0", "C3_p4", "reduce_conv1", "C3_p3", "bu_conv2"]
_RUN += ["C3_n3", "bu_conv1", "C3_n4"]
_HEAD = ["stems", "cls_convs", "cls_preds", "reg_convs", "reg_preds", "obj_preds"]


@register("importer", "yolox")
def import_yolox(file: PublishedFile) -> Yolo | None:
    """Import a released YOLOX, an .onnx or .pth file; None for one of another network.

    Raises:
        UserError: the file begins like a YOLOX, but is none.
    """
    path, parts = file.path, _parts(file)
    if parts is None:
        return None
    config = _config(parts, path)
    if not all(part.get("weight", torch.zeros(())).ndim == 4 for part in parts):
        raise _other(path, config)
    light = config.backbone.endswith("_light")
    classes = len(parts[-7 if light else -5]["weight"])  # before the convolutions for boxes, their two predictions
    size = SMALL if config.name in ("yolox_nano", "yolox_tiny") else 640
    model = build(config, file.metadata(classes, size, PIXELS, folded="bias" in parts[0]))
    assert isinstance(model, Yolo)
    try:
        fill(model.eval(), iter(parts), _takes(model), 32)
    except (RuntimeError, LookupError, TypeError, StopIteration) as error:
        raise _other(path, config) from error
    return model


def _parts(file: PublishedFile) -> Sequence[Part] | None:
    """The convolutions in the order they run; None for a file of another network."""
    if any(name.startswith(("head.obj_preds.", "backbone.backbone.dark")) for name in file.state):
        return _by_name(file.state, file.path)
    first = file.convolutions[0].get("weight") if file.convolutions else None
    return file.convolutions if first is not None and first.shape[1:] == (12, 3, 3) else None


def _by_name(state: Mapping[str, Tensor], path: Path) -> list[Part]:
    """The convolutions of a state dictionary in the order they run."""
    names = [key.removesuffix(".weight") for key, value in state.items() if key.endswith(".weight") and value.ndim == 4]
    return [_part(state, name) for name in sorted(names, key=lambda name: _place(name, path))]


def _part(state: Mapping[str, Tensor], name: str) -> Part:
    """A convolution with its bias or its batch normalization, which stands beside one called `conv`."""
    part = {"weight": state[f"{name}.weight"]}
    if f"{name}.bias" in state:
        return part | {"bias": state[f"{name}.bias"]}
    norm = f"{name.removesuffix('conv')}bn"
    return part | {f"norm.{key}": state[f"{norm}.{key}"] for key in NORM if f"{norm}.{key}" in state}


def _place(name: str, path: Path) -> tuple:
    """The place of a convolution in the order: its part, then conv1, conv2, the blocks, conv3; depthwise first."""
    words = name.split(".")
    if words[0] == "head" and len(words) > 2 and words[1] in _HEAD and words[2].isdecimal():
        return len(_RUN), int(words[2]), _HEAD.index(words[1]), _natural(".".join(words[3:]))
    part = next((word for word in words if word in _RUN), None)
    if words[0] != "backbone" or part is None:
        raise UserError(f"{path} is not a YOLOX: it has a convolution called {name}")
    return _RUN.index(part), 0, 0, _natural(name.partition(part)[2].replace("conv3", "z"))


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts words by letters and numbers by value."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"\.", text) if word]


def _config(parts: Sequence[Part], path: Path) -> YoloxConfig:
    """The configuration whose stem has the width of the file's."""
    configs = [config for name in shipped_names() if isinstance(config := model_config(name), YoloxConfig)]
    known = {config.width // 4: config for config in configs}
    width = len(parts[0]["weight"]) if parts and parts[0]["weight"].ndim == 4 else 0
    if width not in known:
        raise UserError(f"{path} is not a YOLOX: its first convolution has {width} outputs, none of {sorted(known)}")
    config = known[width]
    with torch.device("meta"):
        like = build(config, ModelMetadata(["any"], [1]))
    assert isinstance(like, Yolo)
    twice = len(modules(like, CSP)) + len(like.head.regress)  # our convolutions that are two in the file
    if len(parts) != len(modules(like, nn.Conv2d)) + twice:
        raise _other(path, config)
    return config


def _other(path: Path, config: YoloxConfig) -> UserError:
    return UserError(f"{path} begins like {config.name}, but is another network: its other convolutions differ")


def _takes(model: Yolo) -> dict[nn.Module, Take]:
    """How those of our convolutions are made that are not one of the file."""
    takes: dict[nn.Module, Take] = {modules(model, nn.Conv2d)[0]: _focus}
    for stage in modules(model, CSP):  # the file has the half that bypasses the blocks second, and merges it second
        takes |= {stage.split[0]: join_reversed, stage.merge[0]: swap_inputs}
    return takes | {tower[-1]: join for tower in model.head.regress}  # box and objectness


def _focus(parts: Iterator[Part]) -> Part:
    """The stem, whose input is 2x2 pixels of 3 channels by column, row, channel; ours is by channel, row, column."""
    part = next(parts)
    return part | {"weight": part["weight"].unflatten(1, (2, 2, 3)).permute(0, 3, 2, 1, 4, 5).flatten(1, 3)}
