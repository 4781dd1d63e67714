"""Writes a fused model to a file of each format, with its metadata inside."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detect.errors import UserError
from detect.export.forms import Bare
from detect.export.libraries import load_openvino, openvino_core, require
from detect.export.metadata import KEY, About
from detect.export.nms import with_suppression
from detect.models.backbones.blocks import Predict
from detect.models.base import Model
from detect.models.heads.roi import Dense
from detect.models.heads.single_object import Exact

OPSET = 18
DYNAMIC_ONNX = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7)  # earlier versions lack some operators
_EXACT = (Predict, Exact, Dense)  # layers that compute in the type of their weights: boxes need float32


def halved(model: Model) -> Model:
    """The model in float16, in place, except for the layers that predict coordinates, as under autocast."""
    model.half()
    for module in model.modules():
        if isinstance(module, _EXACT):
            module.float()
    return model


def write_torchscript(model: Model, about: About, part: Path) -> None:
    """Trace the model into the temporary file `part`; it takes images of any size."""
    with quiet():
        traced = torch.jit.trace(Bare(model), (_example(about),), check_trace=False)
        buffer = io.BytesIO()  # torch ends the process if it writes the file itself and the disk is full
        torch.jit.save(traced, buffer, _extra_files={KEY: about.text()})
    part.write_bytes(buffer.getvalue())


def to_onnx(model: Model, about: About) -> Any:
    """The model as an ONNX model, without NMS; variable dimensions have names, such as batch.

    Raises:
        UserError: this version of torch cannot export variable dimensions.
    """
    require("onnx", "onnxscript")
    names = about.outputs
    if about.dynamic and not DYNAMIC_ONNX:
        raise UserError(
            f"--dynamic needs torch 2.7 or newer, not {torch.__version__}: update torch, or leave --dynamic out"
        )
    with quiet():
        program = torch.onnx.export(
            Bare(model),
            (_example(about),),
            dynamo=True,
            input_names=["images"],
            output_names=names,
            dynamic_shapes=_shapes(about),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def write_onnx(graph: Any, about: About, path: Path) -> None:
    """Write the ONNX model, with NMS if `about` asks for it."""
    import onnx

    if about.suppressed:
        graph = with_suppression(graph, about)
    graph.producer_name = "gridhead"
    onnx.helper.set_model_props(graph, {KEY: about.text()})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


def write_openvino(source: Path, about: About, path: Path) -> None:
    """Convert the ONNX file `source` to OpenVINO: `path` and, beside it, the weights (.bin)."""
    openvino = load_openvino()
    model = openvino_core().read_model(str(source))
    model.set_rt_info(about.text(), KEY)
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _example(about: About) -> Tensor:
    """Images to trace with; variable dimensions get distinct sizes, so that none is mistaken for another."""
    side, stride = about.metadata.size, about.stride
    shape = (2 if about.dynamic else 1, 3, side, side)
    if not about.square:
        side = max(side // stride, 2) * stride
        shape = (2, 3, side, side + stride)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _shapes(about: About) -> dict[str, dict[int, Any]] | None:
    """The variable dimensions of the images: batch, height and width, the latter in strides."""
    from torch.export import Dim

    if not about.dynamic:
        return None
    batch = {0: Dim("batch", min=1, max=4096)}
    if about.square:
        return {"images": batch}
    most = 8192 // about.stride
    rows, columns = (about.stride * Dim(name, min=1, max=most) for name in ("rows", "columns"))
    return {"images": {**batch, 2: rows, 3: columns}}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress messages and warnings of the exporters."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
