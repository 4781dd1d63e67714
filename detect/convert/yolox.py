"""Imports YOLOX's released weights: the convolutions of the file, in the order they run, are those of our network.

An ONNX file holds its convolutions in that order, with batch normalization folded in; a .pth file has names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
NORM = ("weight", "bias", "running_mean", "running_var")
# The order in which the parts run, by the start of their names; a level of the head is one part.
_RUN = ["stem", "dark2", "dark3", "dark4", "dark5", "lateral_conv0", "C3_p4", "reduce_conv1", "C3_p3", "bu_conv2"]
_RUN += ["C3_n3", "bu_conv1", "C3_n4"]
_HEAD = ["stems", "cls_convs", "cls_preds", "reg_convs", "reg_preds", "obj_preds"]
Part = dict[str, Tensor]  # weight, and bias or the tensors of batch normalization; axis 0 is the outputs


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
    light = config.backbone.endswith("_light")
    classes = len(parts[-7 if light else -5]["weight"])  # before the convolutions for boxes, their two predictions
    size = SMALL if config.name in ("yolox_nano", "yolox_tiny") else 640
    model = build(config, file.metadata(classes, size, PIXELS, folded="bias" in parts[0]))
    assert isinstance(model, Yolo)
    left = iter(parts)
    with torch.no_grad():
        for conv, norm, joined in _convolutions(model.eval()):
            try:
                _put(conv, norm, joined(left))
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
    twice = len(_all(like, CSP)) + len(like.head.regress)  # our convolutions that are two in the file: `_both`
    if len(parts) != len(_all(like, nn.Conv2d)) + twice:
        raise _other(path, config)
    return config


def _other(path: Path, config: YoloxConfig) -> UserError:
    return UserError(f"{path} begins like {config.name}, but is another network: its other convolutions differ")


def _convolutions(model: Yolo) -> Iterator[tuple[nn.Conv2d, nn.Module | None, Callable[[Iterator[Part]], Part]]]:
    """Our convolutions in the order they run, each with its normalization and the function that takes its part."""
    order: list[nn.Module] = []
    hooks = [m.register_forward_pre_hook(lambda m, _: order.append(m)) for m in _all(model, nn.Conv2d)]
    model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    how: dict[nn.Module, Callable[[Iterator[Part]], Part]] = {order[0]: _focus}
    for stage in _all(model, CSP):
        how |= {stage.split[0]: _split, stage.merge[0]: _merge}
    how |= {tower[-1]: _both for tower in model.head.regress}
    norms = {block[0]: block[1] for block in _all(model, nn.Sequential) if _normed(block)}
    for conv in order:
        assert isinstance(conv, nn.Conv2d)
        yield conv, norms.get(conv), how.get(conv, next)


def _all(model: nn.Module, kind: type) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, kind)]


def _normed(block: nn.Sequential) -> bool:
    return len(block) > 1 and isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d)


def _focus(parts: Iterator[Part]) -> Part:
    """The stem, whose input is 2x2 pixels of 3 channels by column, row, channel; ours is by channel, row, column."""
    part = next(parts)
    return part | {"weight": part["weight"].unflatten(1, (2, 2, 3)).permute(0, 3, 2, 1, 4, 5).flatten(1, 3)}


def _both(parts: Iterator[Part]) -> Part:
    """Two convolutions of one input joined: box and objectness."""
    first, second = next(parts), next(parts)
    return {key: torch.cat([value, second[key]]) for key, value in first.items()}


def _split(parts: Iterator[Part]) -> Part:
    """The two that begin a cross-stage partial stage; in ours, the one that bypasses the blocks comes first."""
    return {key: torch.cat(value.chunk(2)[::-1]) for key, value in _both(parts).items()}


def _merge(parts: Iterator[Part]) -> Part:
    """The one that ends it, whose input has the other order as well."""
    part = next(parts)
    return part | {"weight": torch.cat(part["weight"].chunk(2, 1)[::-1], 1)}


def _put(conv: nn.Conv2d, norm: nn.Module | None, part: Part) -> None:
    """Store a part in a convolution. For a folded one, the normalization is set to only add the bias."""
    _copy(conv.weight, part["weight"])
    if norm is None:
        _copy(conv.bias, part["bias"])
        return
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.num_batches_tracked is not None
    if "bias" in part:
        norm.reset_running_stats()
        norm.running_var.fill_(1 - norm.eps)
        nn.init.ones_(norm.weight)
        _copy(norm.bias, part["bias"])
        return
    for name in NORM:
        _copy(getattr(norm, name), part[f"norm.{name}"])
    norm.num_batches_tracked.fill_(1)


def _copy(mine: Tensor | None, theirs: Tensor) -> None:
    if mine is None or mine.shape != theirs.shape:
        raise RuntimeError("shapes differ")
    mine.copy_(theirs)
