"""What a network of each task says outside torch: the tensors that are exported, and the answer they make.

Axes: B batch, A predictions, C classes, K points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from detect.errors import UserError
from detect.heads.single import Landmarks, Located
from detect.models.base import Model
from detect.models.classifier import best
from detect.models.landmarker import placed
from detect.models.locator import located
from detect.models.yolo import choose
from detect.types import Keep


class Form(NamedTuple):
    """The names of the outputs; (model, raw) -> the outputs; (outputs, keep) -> the answer of each image."""

    names: tuple[str, ...]
    tensors: Callable[[Any, Any], Sequence[Tensor]]
    decode: Callable[[Sequence[Tensor], Keep], list[Any]]


def _chosen(outputs: Sequence[Tensor], keep: Keep) -> list[Any]:
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
