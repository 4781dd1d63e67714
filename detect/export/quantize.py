"""Int8 quantization of convolutions, calibrated on images, all of them or all but some."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detect.errors import unknown
from detect.export.libraries import load_onnxruntime, require
from detect.export.ranges import results, useful_ranges
from detect.utils.progress import track


class _Reader:
    """Gives the images one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.left, None)
        return None if image is None else {"images": image.numpy()}


class Quantizer:
    """Makes an ONNX model int8; the ranges of its activations are measured on images.

    Args:
        graph: the model in float32.
        images: letterboxed images (1, 3, H, W) uint8 for calibration; weights are quantized by channel.
        folder: a folder for temporary files.
        outputs: whether convolutions also return int8; see `ExportFormat.int8_outputs`.
        unsigned: whether weights are unsigned; see `ExportFormat.unsigned_weights`.

    Attributes:
        layers: the nodes of each convolution by its name in the network, such as "head.regress.0.2". One that is
            applied to several feature maps has several nodes.
    """

    def __init__(
        self, graph: Any, images: Iterable[Tensor], folder: Path, outputs: bool = True, unsigned: bool = True
    ) -> None:
        require("onnx")
        load_onnxruntime()
        import onnx

        self.source, self.target = folder / "float.onnx", folder / "int8.onnx"
        onnx.save(graph, str(self.source))
        self.options: dict[str, Any] = {"WeightSymmetric": True}
        if not outputs:
            self.options["OpTypesToExcludeOutputQuantization"] = ["Conv"]
        self.unsigned = unsigned
        self.useful, self.results = useful_ranges(graph.graph), results(graph.graph)
        self.layers: dict[str, list[str]] = {}
        for node in graph.graph.node:
            if node.op_type == "Conv":
                name = node.input[1].removeprefix("model.").removesuffix(".weight")
                self.layers.setdefault(name, []).append(node.name)
        self.measured: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.calibrate(images)

    def calibrate(self, images: Iterable[Tensor], averaged: bool = False) -> None:
        """Measure the ranges of activations, as far as their values make a difference.

        Args:
            images: as `Quantizer` takes them.
            averaged: ranges are means of each image's extremes, rather than the extremes of all: rare values are cut
                off, and frequent ones become finer. Scores and boxes keep their extremes: the rare ones are objects.
        """
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, create_calibrator

        augmented = str(self.source.with_name("calibration.onnx"))
        options = {"moving_average": averaged}
        calibrator = create_calibrator(self.source, ["Conv"], augmented_model_path=augmented, extra_options=options)
        calibrator.collect_data(_Reader(images))
        extremes = self.measured if averaged else {}
        self.measured = {name: found.range_value for name, found in calibrator.compute_data().items()}
        self.measured |= {name: extremes[name] for name in self.results & extremes.keys()}
        useful = {name: tuple(np.clip(found, *self.useful[name])) for name, found in self.measured.items()}
        self.ranges, self.averaged = TensorsData(CalibrationMethod.MinMax, useful), averaged

    def __call__(self, exclude: Collection[str] = (), only: Collection[str] = ()) -> Any:
        """The model in int8.

        Args:
            exclude: names of `layers` that stay in float32.
            only: names of `layers`; if there are any, all others stay in float32.
        """
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

        left_out, included = ([node for name in names for node in self.layers[name]] for names in (exclude, only))
        if len(exclude) == len(self.layers):
            return onnx.load(str(self.source))
        with _quiet():
            quantizer = QDQQuantizer(
                load_model_with_shape_infer(self.source),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QUInt8 if self.unsigned else QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=self.ranges,
                nodes_to_quantize=included,
                nodes_to_exclude=left_out,
                op_types_to_quantize=["Conv"],
                extra_options=self.options,
            )
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(self.target), False)
        return onnx.load(str(self.target))

    def matching(self, names: Iterable[str]) -> list[str]:
        """The layers that are named, or lie within a named part of the network, such as "head".

        Raises:
            UserError: a name is of no layer and no part.
        """
        chosen: list[str] = []
        for name in names:
            within = [layer for layer in self.layers if f"{layer}.".startswith(f"{name}.")]
            if not within:
                parts = {layer.rsplit(".", n)[0] for layer in self.layers for n in range(layer.count(".") + 1)}
                raise unknown("layer", name, parts)
            chosen += within
        return list(dict.fromkeys(chosen))

    def by_sensitivity(self, images: Sequence[Tensor]) -> list[str]:
        """The layers, the one whose quantization alone changes the outputs most first.

        Outputs differ in kind and unit, so each layer has a share of each output's error; the shares are summed. Where
        outputs have a row for each candidate box, a row counts as much as its best score.

        Args:
            images: letterboxed images (1, 3, H, W) uint8.
        """
        expected = self._outputs(self.source.read_bytes(), images)
        errors = []
        for name in track(self.layers, None, "sensitivity of layers"):
            actual = self._outputs(self(only=[name]).SerializeToString(), images)
            errors.append(np.mean([_errors(a, b) for a, b in zip(expected, actual, strict=True)], axis=0))
        table = np.array(errors)
        shares = (table / np.maximum(table.sum(0), 1e-30)).sum(1)
        return [list(self.layers)[i] for i in np.argsort(-shares, kind="stable")]

    @staticmethod
    def _outputs(model: bytes, images: Iterable[Tensor]) -> list[dict[str, np.ndarray]]:
        """The outputs of a model for each image, by name."""
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(names, {"images": x.numpy()}), strict=True)) for x in images]


def _errors(expected: dict[str, np.ndarray], actual: dict[str, np.ndarray]) -> list[float]:
    """The error of each output: mean square of scores, where large changes count, and mean distance of all else."""
    scores = expected.get("scores")
    errors = []
    for name, values in expected.items():
        difference = np.abs(values - actual[name])
        if name == "scores":
            difference = np.square(difference)
        elif scores is not None and scores.ndim == 3:
            difference = difference.reshape(*scores.shape[:2], -1).mean(2) * scores.max(2)
        errors.append(float(difference.mean()))
    return errors


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings: ONNX Runtime recommends a preparation that torch's exporter has done."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
