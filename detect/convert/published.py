"""A published weights file as importers see it: the tensors in it, and what the user said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detect.convert import coco_classes as coco
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.pretrained import read_state
from detect.types import Preprocess

TORCH, ONNX = (".pth", ".pt"), (".onnx",)  # suffixes


@dataclass(frozen=True)
class PublishedFile:
    """A weights file of another program; it is read when an importer first asks what is in it.

    Attributes:
        path: the file.
        cfg: the network description of Darknet weights. None: the file beside them, with the suffix .cfg.
        names: the class names. None: those that the network was published with.
        imgsz: image size in pixels. 0: the size that the network was made for.
    """

    path: Path
    cfg: Path | None = None
    names: Sequence[str] | None = None
    imgsz: int = 0

    @cached_property
    def state(self) -> Mapping[str, Tensor]:
        """The tensors of a torch file by name; none of another file. Raises UserError; no pickle is loaded."""
        return read_state(self.path) if self.path.suffix.lower() in TORCH else {}

    @cached_property
    def graph(self) -> Any:
        """The graph of an ONNX file (`onnx.GraphProto`); None for another file. Raises UserError."""
        return _read_graph(self.path) if self.path.suffix.lower() in ONNX else None

    @cached_property
    def convolutions(self) -> list[dict[str, Tensor]]:
        """The constant `weight` and `bias` of the convolutions of an ONNX file in the order they run. Raises UserError.

        What is not constant is absent; batch normalization is folded in.
        """
        if self.graph is None:
            return []
        constants = {node.output[0]: _value(node) for node in self.graph.node if node.op_type == "Constant"}
        constants |= {value.name: value for value in self.graph.initializer}
        found = (zip(("weight", "bias"), n.input[1:], strict=False) for n in self.graph.node if n.op_type == "Conv")
        return [
            {part: _tensor(constants[name], self.path) for part, name in parts if constants.get(name) is not None}
            for parts in found
        ]

    def metadata(
        self,
        classes: int,
        size: int,
        preprocess: Preprocess,
        names: Sequence[str] = coco.NAMES,
        folded: bool = False,
    ) -> ModelMetadata:
        """The metadata of the network in the file.

        Args:
            classes: how many classes the network has.
            size: the image size in pixels that it was made for.
            preprocess: its preprocessing.
            names: the class names that it was published with.
            folded: as in `ModelMetadata`.

        Raises:
            UserError: the class names are not known, because the network has another number of classes.
        """
        known = list(names if self.names is None else self.names)
        if len(known) != classes:
            whose = "--names" if self.names is not None else "COCO" if names is coco.NAMES else "ImageNet"
            raise UserError(
                f"{self.path}: {whose} has {len(known)} classes, the network {classes}: "
                "give detect import a file of --names with that many lines"
            )
        ids = coco.IDS if known == coco.NAMES else list(range(1, classes + 1))
        return ModelMetadata(known, list(ids), self.imgsz or size, preprocess, folded=folded)


def _read_graph(path: Path) -> Any:
    import onnx  # late: only who reads ONNX waits for it

    try:
        return onnx.load(str(path), load_external_data=False).graph
    except MemoryError:
        raise
    except Exception as error:  # protobuf and onnx raise several kinds
        raise _unreadable(path, error) from error


def _value(node: Any) -> Any:
    """The tensor of a node of type Constant; None where it is of another kind."""
    return next((one.t for one in node.attribute if one.name == "value"), None)


def _tensor(value: Any, path: Path) -> Tensor:
    from onnx import numpy_helper

    try:
        return torch.tensor(numpy_helper.to_array(value))
    except MemoryError:
        raise
    except Exception as error:  # numpy and onnx raise several kinds
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path} is not an ONNX file that can be read: {reason}")
