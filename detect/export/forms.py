"""What a network of each task says outside torch: the tensors that are exported, and the answer they make.

Axes: B batch, A predictions, C classes, K points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from detect.errors import UserError
from detect.models.base import Model
from detect.models.classifier import best
from detect.models.heads.single_object import Landmarks, Located
from detect.models.landmarker import placed
from detect.models.localizer import located
from detect.models.yolo import choose
from detect.types import Postprocess

if TYPE_CHECKING:
    from detect.export.metadata import About


class Form(NamedTuple):
    """The names of the outputs; (model, raw) -> the outputs; (outputs, keep) -> the answer of each image."""

    names: tuple[str, ...]
    tensors: Callable[[Any, Any], Sequence[Tensor]]
    decode: Callable[[Sequence[Tensor], Postprocess], list[Any]]


def _chosen(outputs: Sequence[Tensor], keep: Postprocess) -> list[Any]:
    boxes, scores, *points = outputs
    return [choose(boxes[i], scores[i], keep, *(p[i] for p in points)) for i in range(len(boxes))]


FORMS = {
    "detect": Form(("boxes", "scores"), lambda model, raw: model.candidates(raw), _chosen),
    "keypoints": Form(
        ("boxes", "scores", "points"), lambda model, raw: (*model.candidates(raw), model.head.points(raw)), _chosen
    ),
    "classify": Form(
        ("scores",), lambda model, raw: (model.scores(raw),), lambda outputs, keep: best(outputs[0], keep)
    ),
    "locate": Form(("presence", "boxes", "logits"), lambda model, raw: raw, lambda x, keep: located(Located(*x), keep)),
    "landmarks": Form(("points", "presence"), lambda model, raw: raw[:2], lambda x, keep: placed(Landmarks(*x), keep)),
}


def misfit(about: About, outputs: Sequence[Tensor], batch: int) -> str:
    """What is wrong with the outputs of a file for `batch` images; "" where they are as it says of itself."""
    classes, points = len(about.metadata.names), len(about.metadata.keypoint_names)
    if about.suppressed:
        wide = 7 + 3 * points * (about.task == "keypoints")
        fits = len(outputs) == 1 and outputs[0].is_floating_point() and outputs[0].ndim == 2
        if not fits or outputs[0].shape[1] != wide:
            return f"its output is not (N, {wide}) numbers"
        labels = outputs[0][:, 6]
        return "" if ((labels >= 0) & (labels < classes)).all() else f"it has labels that are none of {classes}"
    names = FORMS[about.task].names
    if list(about.outputs) != list(names) or len(outputs) != len(names):
        return f"it has {len(outputs)} outputs, {about.outputs}, not {list(names)}"
    last = {
        "boxes": (4,),
        "scores": (classes,),
        "logits": (classes,),
        "points": (points, 2 if about.task == "landmarks" else 3),
    }
    rows = about.task in ("detect", "keypoints")
    for name, x in zip(names, outputs, strict=True):
        tail = last.get(name, ())
        fits = x.is_floating_point() and x.ndim > 0 and len(x) == batch and tuple(x.shape[x.ndim - len(tail) :]) == tail
        if not fits or (rows and x.shape[:2] != outputs[0].shape[:2]):
            return f"{name} is {x.dtype} {list(x.shape)} for {batch} images, {classes} classes and {points} keypoints"
    return ""


_BY_REGION = ("faster_rcnn", "fast_rcnn", "rcnn")


class Bare(nn.Module):
    """What is exported of a lean model: images (B, 3, H, W) uint8 RGB, letterboxed, to the outputs of its form."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.tensors = model, FORMS[model.task].tensors
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.float() for x in self.tensors(self.model, self.model(images)))


def require_exportable(model: Model, path: str) -> None:
    """Raises UserError for a network whose graph depends on what it sees, or whose answer has no form here."""
    if model.task not in FORMS:
        raise UserError(f"{path} is an embedder: it is used by detect embed, verify and identify, not exported")
    if model.dims != 2:
        raise UserError(f"{path} looks at signals or volumes: only what looks at pictures is exported")
    if model.config.kind in _BY_REGION:
        raise UserError(
            f"{path} is a {model.config.kind}: which regions it looks at depends on the picture, so it has no fixed "
            "graph to export; the grid detectors (yolo_n ...) have one"
        )


def is_square(model: Model) -> bool:
    """Whether the graph holds for square pictures of one size alone, however it is exported."""
    return model.square or model.config.kind == "sliding_window"  # whose scales depend on the size
