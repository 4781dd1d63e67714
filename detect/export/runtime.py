"""Exported files in the place of a model: prediction and evaluation lead through them as through weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detect.errors import UserError
from detect.export.forms import form_of, misfit
from detect.export.libraries import load_onnxruntime, load_openvino
from detect.export.metadata import KEY, About
from detect.types import Detections, Postprocess, Preprocess
from detect.utils.device import pick_device, spelled
from detect.utils.operators import require_operators

Run = Callable[[Tensor], Sequence[Tensor]]
_HINTS = {"auto": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class Exported:
    """A file that `detect export` wrote. Called with images (B, 3, H, W) uint8 RGB it returns the outputs of its form;
    of one with suppression the rows (N, 6 or more) of each image.
    """

    needs_proposals = False

    def __init__(self, path: Path, about: About, run: Run) -> None:
        self.path, self.about, self.run = path, about, run
        self.metadata, self.task, self.square = about.metadata, about.task, about.square

    @property
    def pixels(self) -> Preprocess:
        """How images are letterboxed; what their numbers become is in the file."""
        return self.metadata.pixels

    def for_inference(self, device: torch.device, dtype: torch.dtype) -> Exported:
        """Itself: it was made ready when it was opened."""
        return self

    def require_side(self, side: int) -> None:
        """Raises UserError where the file takes another side alone."""
        if self.square and side != self.metadata.size:
            raise UserError(
                f"{self.path} takes pictures of {self.metadata.size} px alone: leave --imgsz out, or export another"
            )

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        parts = [images] if self.about.dynamic else images.split(1)
        outputs = [self._outputs(part) for part in parts]
        if not self.about.suppressed:
            return [torch.cat(one) for one in zip(*outputs, strict=True)]
        counts = [len(part) for part in parts]
        return [found[found[:, 0] == i, 1:] for (found,), n in zip(outputs, counts, strict=True) for i in range(n)]

    def _outputs(self, images: Tensor) -> Sequence[Tensor]:
        """What the file makes of images. Raises UserError where it cannot be run, or gives what it should not."""
        try:
            outputs = self.run(images)
        except Exception as error:  # each runtime has kinds of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.path} cannot be run: {reason[:200]}; export it again") from error
        wrong = misfit(self.about, outputs, len(images))
        if wrong:
            raise UserError(f"{self.path} is not what it says of itself: {wrong}; export it again")
        return outputs

    def scores(self, raw: Sequence[Tensor]) -> Tensor:
        """Of a classifier: the probability of each class (B, C)."""
        return raw[0]

    def decode(self, raw: Sequence[Tensor], keep: Postprocess) -> list[Any]:
        """The answer for each image, in canvas pixels. Raises UserError for what the file has already left out."""
        if not self.about.suppressed:
            return form_of(self.task).decode(raw, keep)
        about = self.about
        if keep.score < about.conf or keep.limit > about.max_det:
            raise UserError(
                f"{self.path} was exported with --nms and gives no box at or below {about.conf:g} and at most "
                f"{about.max_det}: ask for --conf {about.conf:g} --max-det {about.max_det}, or export without --nms"
            )
        if (keep.iou, keep.agnostic, keep.soft) != (about.iou, False, False):
            raise UserError(
                f"{self.path} was exported with --nms, which suppressed its boxes by IoU {about.iou:g} in each class: "
                f"ask for --iou {about.iou:g} alone, or export without --nms"
            )
        return [self._detections(rows, keep) for rows in raw]

    def _detections(self, rows: Tensor, keep: Postprocess) -> Detections:
        """Rows (N, 6 + 3 K) of one image as Detections, best first.

        Raises UserError if boxes of the wanted classes may be among those that the file left out at its limit.
        """
        points = rows[:, 6:].unflatten(1, (-1, 3)) if rows.shape[1] > 6 else None
        found = Detections(rows[:, :4], rows[:, 4], rows[:, 5].long(), points)
        wanted = found.scores > keep.score
        full = len(rows) >= self.about.max_det and bool(wanted.all())  # else all above `keep.score` are there
        if keep.classes is not None:
            wanted &= torch.isin(found.labels, torch.tensor(keep.classes))
        if full and int(wanted.sum()) < keep.limit and keep.classes is not None:
            raise UserError(
                f"{self.path} was exported with --nms and gives the best {len(rows)} boxes of all classes: more of "
                "--classes may be behind them; export with a larger --max-det, or without --nms"
            )
        keep.limit_hits.add(limited=full or int(wanted.sum()) > keep.limit)
        return found[wanted][: keep.limit]


def is_exported(path: str | Path) -> bool:
    """Whether the name of `path` says that it is an exported file."""
    return Path(path).suffix in _OPENERS


def open_exported(path: str | Path, device: str = "auto", precision: str = "auto") -> Exported:
    """The network in an exported file. Raises UserError for a file, device or precision that will not do."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not there: detect export writes it")
    about, run = _OPENERS[path.suffix](path, spelled(device), precision)
    if form_of(about.task).rows:
        require_operators()
    return Exported(path, about, run)


def _open_onnx(path: Path, device: str, precision: str) -> tuple[About, Run]:
    onnxruntime = load_onnxruntime()
    _refuse_precision(path, precision)
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


def _open_openvino(path: Path, device: str, precision: str) -> tuple[About, Run]:
    if device not in ("auto", "cpu"):
        raise UserError(f"--device {device}: OpenVINO is run on the CPU; use --device cpu")
    core = load_openvino().Core()
    try:
        model = core.read_model(str(path))
        text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
        about = About.read(text, path)
        hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **hints})
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read by OpenVINO: {error}") from error
    requests = threading.local()  # a request holds its inputs and outputs, so each thread needs its own

    def run(images: Tensor) -> list[Tensor]:
        if not hasattr(requests, "own"):
            requests.own = compiled.create_infer_request()
        outputs = requests.own.infer([_array(images)])  # copies: the next call may overwrite what it returned
        return [torch.from_numpy(outputs[one]) for one in compiled.outputs]

    return about, run


def _open_torchscript(path: Path, device: str, precision: str) -> tuple[About, Run]:
    import warnings

    _refuse_precision(path, precision)
    where, extra = pick_device(device), {KEY: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its being deprecated
            module = torch.jit.load(str(path), map_location=where, _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be read by torch: {str(error).splitlines()[0]}") from error
    text = extra[KEY]
    about = About.read(text.decode() if isinstance(text, bytes) else text, path)

    def run(images: Tensor) -> list[Tensor]:
        with torch.autocast(where.type, enabled=False):
            return [x.cpu() for x in module(images.to(where))]

    return about, run


def _refuse_precision(path: Path, precision: str) -> None:
    if precision != "auto":
        raise UserError(f"--precision {precision}: that of {path} was chosen by detect export; leave it out")


def _array(images: Tensor) -> np.ndarray:
    return np.ascontiguousarray(images.cpu().numpy())


_OPENERS = {".onnx": _open_onnx, ".xml": _open_openvino, ".torchscript": _open_torchscript}
