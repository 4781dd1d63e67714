"""Reads the convolutions of published files in the order they run, each with its bias or batch statistics."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from detect.errors import UserError
from detect.models.pretrained import require_stored

NORM = ("weight", "bias", "running_mean", "running_var")
# The order in which the parts of YOLOX run, by the start of their names; a level of the head is one part.
_RUN = ["stem", "dark2", "dark3", "dark4", "dark5", "lateral_conv0", "C3_p4", "reduce_conv1", "C3_p3", "bu_conv2"]
_RUN += ["C3_n3", "bu_conv1", "C3_n4"]
_HEAD = ["stems", "cls_convs", "cls_preds", "reg_convs", "reg_preds", "obj_preds"]


def read_onnx(path: Path) -> list[dict[str, Tensor]]:
    """The convolutions of an ONNX file.

    Raises:
        UserError: it cannot be read, or the weights of its convolutions are not constants.
    """
    try:
        import onnx  # late: an extra
    except ImportError as error:
        raise UserError(f"{path}: to read ONNX, install gridhead[export]") from error
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
        constants = {value.name: value for value in graph.initializer}
        nodes = [node for node in graph.node if node.op_type == "Conv"]
        if odd := [n.name for n in nodes if len(n.input) != 3 or not all(i in constants for i in n.input[1:])]:
            raise UserError(f"{path}: convolution {odd[0]} has no constant weight and bias, as released files have")
        read = [[torch.tensor(numpy_helper.to_array(constants[name])) for name in n.input[1:]] for n in nodes]
    except (UserError, MemoryError):
        raise
    except Exception as error:  # protobuf, numpy and onnx raise several kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not an ONNX file that can be read: {reason}") from error
    return [{"weight": weight, "bias": bias} for weight, bias in read]


def read_pth(path: Path) -> list[dict[str, Tensor]]:
    """The convolutions of a checkpoint of YOLOX; no pickle is loaded.

    Raises:
        UserError: it is not a checkpoint of YOLOX.
    """
    try:
        file = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files and for those of other programs
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not a weights file that can be read safely: {reason}") from error
    state = file.get("model", file) if isinstance(file, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dictionary (names and tensors), as released files do")
    require_stored(state, path)
    names = [key.removesuffix(".weight") for key, value in state.items() if key.endswith(".weight") and value.ndim == 4]
    return [_part(state, name) for name in sorted(names, key=lambda name: _place(name, path))]


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
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
