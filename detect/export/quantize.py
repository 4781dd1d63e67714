"""Int8: convolutions that count in bytes, their ranges measured on pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.export.comparison import canvases
from detect.export.libraries import load_onnxruntime, require
from detect.export.metadata import About


class _Reader:
    """The pictures, one a call, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Sequence[np.ndarray], about: About) -> None:
        self.left = canvases(images, about)

    def get_next(self) -> dict[str, np.ndarray] | None:
        canvas = next(self.left, None)
        return None if canvas is None else {"images": canvas.numpy()}


def quantized(graph: Any, about: About, images: Sequence[np.ndarray], folder: Path) -> Any:
    """The ONNX model with its convolutions in int8; ranges are those of `images`, per channel for weights.

    None is left out: with the last ones of the head in float32 the AP of two detectors was no better (docs/export.md).
    """
    require("onnx")
    load_onnxruntime()
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
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(str(target))
