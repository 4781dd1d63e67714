"""The file formats of `detect export`. A format is one class, registered in the kind "export"."""

from __future__ import annotations

import mmap
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from detect.errors import UserError
from detect.export.libraries import load_onnxruntime, openvino_core
from detect.export.metadata import KEY, About
from detect.export.writers import to_onnx, write_onnx, write_openvino, write_torchscript
from detect.models.base import Model
from detect.registry import REGISTRIES, register
from detect.utils.atomic_io import open_file, temporary_folder
from detect.utils.device import pick_device

Run = Callable[[Tensor], Sequence[Tensor]]
"""From images (B, 3, H, W) uint8 RGB to the outputs that `About.outputs` names, on the CPU."""

Quantize = Callable[[Any], Any]
"""From an ONNX model in float32, without NMS, to the same in int8."""

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_ABILITIES = {"bfloat16": "BF16", "float16": "FP16"}  # what OpenVINO calls them where it has instructions for them


class ExportFormat:
    """A file format; it is made without arguments.

    Attributes:
        suffix: the suffix of a file of this format, which is how it is recognised.
        companions: suffixes of the files that are written beside it.
        runtime: name of the package that runs it.
        has_operators: whether `--nms` and `--int8` are possible.
        int8_outputs: whether int8 convolutions also return int8, which some runtimes need to compute in it; others join
            a convolution with the activation after it, whose result then is quantized, faster and with less error.
        unsigned_weights: whether int8 weights are stored as unsigned numbers around 128, for a runtime that adds two
            products of a signed and an unsigned number in 16 bits, where the sum is cut off, on processors without
            dot-product instructions for 8 bits (VNNI).
    """

    suffix: ClassVar[str]
    companions: ClassVar[tuple[str, ...]] = ()
    runtime: ClassVar[str] = "torch"
    has_operators: ClassVar[bool] = False
    int8_outputs: ClassVar[bool] = True
    unsigned_weights: ClassVar[bool] = False

    def write(self, model: Model, about: About, path: Path, quantize: Quantize) -> None:
        """Write a model to a new file.

        Args:
            model: as it is for inference, in float16 where `about.precision` says so.
            about: how the file is used; its text must be found in it by `open`.
            path: where to write; companions have the same name with their own suffixes.
            quantize: makes the model's ONNX form int8; called where `about.precision` is int8.
        """
        raise NotImplementedError

    def wrote(self, path: Path) -> bool:
        """Whether a file of this suffix is one that `write` made: needed where other programs write such files too."""
        return True

    def precisions(self) -> list[str]:
        """The values of `--precision` among which the runtime can choose on this machine, the most exact one first.

        Default: "auto" alone, where a file is computed as it was exported.
        """
        return ["auto"]

    def open(self, path: Path, device: str, precision: str) -> tuple[About, Run]:
        """Open a file.

        Args:
            path: the file.
            device: "auto", or where to run it, as in `--device`.
            precision: one of `precisions`, or another that the user asks for where there are several.

        Returns:
            What the file says of itself, and a function that runs it.

        Raises:
            UserError: the file is damaged, or cannot be run so.
        """
        raise NotImplementedError


def format_of(path: str | Path) -> ExportFormat | None:
    """The format of an exported file, by its suffix and by what is in it; None for one that is no exported file."""
    path = Path(path)
    kinds = (kind() for kind in REGISTRIES["export"].values() if kind.suffix == path.suffix)
    return next((kind for kind in kinds if kind.wrote(path)), None)


@register("export", "onnx")
class Onnx(ExportFormat):
    """ONNX, run by ONNX Runtime."""

    suffix = ".onnx"
    runtime = "onnxruntime"
    has_operators = True
    unsigned_weights = True

    def write(self, model: Model, about: About, path: Path, quantize: Quantize) -> None:
        """See `ExportFormat.write`."""
        graph = to_onnx(model, about)
        if about.precision == "int8":
            graph = quantize(graph)
        write_onnx(graph, about, path)

    def wrote(self, path: Path) -> bool:
        """See `ExportFormat.wrote`: published networks are ONNX files too, but have no metadata under our key."""
        try:
            with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.rfind(KEY.encode()) >= 0
        except (OSError, ValueError):  # missing or empty: `open` says so
            return True

    def open(self, path: Path, device: str, precision: str) -> tuple[About, Run]:
        """See `ExportFormat.open`."""
        onnxruntime = load_onnxruntime()
        providers = ["CPUExecutionProvider"]
        if device.startswith("cuda"):
            providers.insert(0, "CUDAExecutionProvider")
        if missing := set(providers) - set(onnxruntime.get_available_providers()):
            raise UserError(f"--device {device}: ONNX Runtime has no {missing.pop()} here; use --device cpu")
        if device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {device}: ONNX Runtime takes cpu or cuda")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            text = session.get_modelmeta().custom_metadata_map.get(KEY)
        except Exception as error:  # its own kinds, which derive from nothing narrower
            raise UserError(f"{path} cannot be read by ONNX Runtime: {error}") from error
        about = About.read(text, path)

        def run(images: Tensor) -> list[Tensor]:
            return [torch.from_numpy(x) for x in session.run(None, {"images": _array(images)})]

        return about, run


@register("export", "openvino")
class OpenVino(ExportFormat):
    """OpenVINO's XML, with the weights in a .bin beside it; run by OpenVINO."""

    suffix = ".xml"
    companions = (".bin",)
    runtime = "openvino"
    has_operators = True
    int8_outputs = False

    def write(self, model: Model, about: About, path: Path, quantize: Quantize) -> None:
        """See `ExportFormat.write`."""
        with temporary_folder() as folder:
            source = folder / "model.onnx"
            Onnx().write(model, about, source, quantize)
            write_openvino(source, about, path)

    def precisions(self) -> list[str]:
        """See `ExportFormat.precisions`."""
        able = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["float32", *(name for name, ability in _ABILITIES.items() if ability in able)]

    def open(self, path: Path, device: str, precision: str) -> tuple[About, Run]:
        """See `ExportFormat.open`."""
        if device not in ("auto", "cpu"):
            raise UserError(f"--device {device}: OpenVINO is run on the CPU; use --device cpu")
        core = openvino_core()
        try:
            model = core.read_model(str(path))
            text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
            about = About.read(text, path)
        except RuntimeError as error:
            raise UserError(f"{path} cannot be read by OpenVINO: {error}") from error
        hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        try:
            compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **hints})
        except RuntimeError as error:
            raise UserError(
                f"OpenVINO cannot run {path} in {precision} on this processor, leave --precision out: {error}"
            ) from error
        requests = threading.local()  # a request holds its inputs and outputs, so each thread needs its own

        def run(images: Tensor) -> list[Tensor]:
            if not hasattr(requests, "own"):
                requests.own = compiled.create_infer_request()
            outputs = requests.own.infer([_array(images)])  # copies: the next call may overwrite what it returned
            return [torch.from_numpy(outputs[one]) for one in compiled.outputs]

        return about, run


@register("export", "torchscript")
class TorchScript(ExportFormat):
    """TorchScript, run by PyTorch without this package's code."""

    suffix = ".torchscript"

    def write(self, model: Model, about: About, path: Path, quantize: Quantize) -> None:
        """See `ExportFormat.write`."""
        write_torchscript(model, about, path)

    def open(self, path: Path, device: str, precision: str) -> tuple[About, Run]:
        """See `ExportFormat.open`."""
        where, extra = pick_device(device), {KEY: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its being deprecated
                module = torch.jit.load(str(path), map_location=where, _extra_files=extra)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} cannot be read by torch: {str(error).splitlines()[0]}") from error
        text: Any = extra[KEY]
        about = About.read(text.decode() if isinstance(text, bytes) else text, path)

        def run(images: Tensor) -> list[Tensor]:
            with torch.autocast(where.type, enabled=False):
                return [x.cpu() for x in module(images.to(where))]

        return about, run


def _array(images: Tensor) -> np.ndarray:
    return np.ascontiguousarray(images.cpu().numpy())
