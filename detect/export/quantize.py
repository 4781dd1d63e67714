"""Int8 quantization of convolutions, calibrated on images."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detect.export.libraries import load_onnxruntime, require


class _Reader:
    """Gives the images one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.left, None)
        return None if image is None else {"images": image.numpy()}


def quantized(graph: Any, images: Iterable[Tensor], folder: Path) -> Any:
    """An ONNX model with its convolutions in int8.

    All of them are quantized: with the last ones of the head in float32, the AP of two detectors was no better
    (docs/export.md).

    Args:
        graph: the model in float32.
        images: letterboxed images (1, 3, H, W) uint8 for calibration; weights are quantized by channel.
        folder: a folder for temporary files.
    """
    require("onnx")
    load_onnxruntime()
    import onnx
    from onnxruntime import quantization

    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(graph, str(source))
    logging.disable(logging.WARNING)  # it recommends a preparation that torch's exporter has done
    try:
        quantization.quantize_static(
            str(source),
            str(target),
            _Reader(images),
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
