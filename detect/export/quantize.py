"""Int8: convolutions that count in bytes, their ranges measured on pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.export.about import About
from detect.export.check import canvases
from detect.export.libraries import require


class _Reader:
    """The pictures, one a call, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Sequence[np.ndarray], about: About) -> None:
        self.left = canvases(images, about)

    def get_next(self) -> dict[str, np.ndarray] | None:
        canvas = next(self.left, None)
        return None if canvas is None else {"images": canvas.numpy()}


def quantized(graph: Any, about: About, images: Sequence[np.ndarray], folder: Path) -> Any:
    """The ONNX model with its convolutions in int8; ranges are those of `images`, per channel for weights.

    The last convolutions of the head, which say where boxes are and how sure that is, stay in float32.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime import quantization

    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(graph, str(source))
    logging.disable(logging.WARNING)  # it asks for a preparation that torch's exporter has done
    try:
        quantization.quantize_static(
            str(source),
            str(target),
            _Reader(images, about),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=_last(graph),
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(str(target))


def _last(graph: Any) -> list[str]:
    """The names of the convolutions behind which there is no other."""
    readers: dict[str, list[Any]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    behind: dict[int, bool] = {}  # whether a convolution follows a node, at once or later
    for node in reversed(graph.graph.node):  # sorted: what reads comes after what is read
        after = [reader for name in node.output for reader in readers.get(name, [])]
        behind[id(node)] = any(behind[id(r)] or r.op_type == "Conv" for r in after)
    return [node.name for node in graph.graph.node if node.op_type == "Conv" and not behind[id(node)]]
