"""What is exported of a model: the tensors of its task's `ExportForm`, and whether a file returns just these.

Axes: B batch, A predictions, C classes, K keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from detect.errors import UserError
from detect.models.base import Model
from detect.tasks import ExportForm, get_task

if TYPE_CHECKING:
    from detect.export.metadata import About


def form_of(task: str) -> ExportForm:
    """The export form of a task. Raises UserError where it has none."""
    form = get_task(task).export
    if form is None:
        raise UserError(f"models for --task {task} are not exported")
    return form


def misfit(about: About, outputs: Sequence[Tensor], batch: int) -> str:
    """What is wrong with the outputs of an exported file.

    Args:
        about: what the file says of itself.
        outputs: what it returned.
        batch: the number of images it was given.

    Returns:
        The reason, or "" where the outputs are as they should be.
    """
    form, metadata = form_of(about.task), about.metadata
    if about.suppressed:
        width = 3 + box_width(about) + sum(math.prod(axes) for axes in extra_axes(about).values())
        return _row_misfit(outputs, width, box_width(about), len(metadata.names), 1 + len(form.shared))
    if list(about.outputs) != list(form.outputs) or len(outputs) != len(form.outputs):
        return f"it has {len(outputs)} outputs, {about.outputs}, not {list(form.outputs)}"
    counts = _counts(about)
    for (name, axes), x in zip(form.outputs.items(), outputs, strict=True):
        tail = x.shape[x.ndim - len(axes) :]
        fits = x.is_floating_point() and x.ndim > 0 and len(x) == batch and len(tail) == len(axes)
        fits = fits and all(axis == "any" or counts.get(axis, axis) == n for axis, n in zip(axes, tail, strict=True))
        if not fits or (form.rows and name not in form.shared and x.shape[:2] != outputs[0].shape[:2]):
            said = f"{batch} images, {counts['classes']} classes and {counts['keypoints']} keypoints"
            return f"{name} is {x.dtype} {list(x.shape)} for {said}"
    return ""


def _counts(about: About) -> dict[int | str, int]:
    classes, keypoints = len(about.metadata.names), len(about.metadata.keypoint_names)
    return {"classes": classes, "classes and background": classes + 1, "keypoints": keypoints}


def extra_axes(about: About) -> dict[str, list[int]]:
    """The last axes of the outputs that have a row for each box, behind boxes and scores."""
    form, counts = form_of(about.task), _counts(about)
    names = [name for name in form.outputs if name not in form.shared][2:]
    return {name: [int(counts.get(axis, axis)) for axis in form.outputs[name]] for name in names}


def box_width(about: About) -> int:
    """How many numbers a box has: 4, or 5 if it is oriented."""
    return 5 if "oriented" in about.outputs else 4


def _row_misfit(outputs: Sequence[Tensor], width: int, box: int, classes: int, count: int) -> str:
    """`misfit` of a file with `--nms`, whose first of `count` outputs has a row of `width` numbers for each box.

    `box` of them are the coordinates of the box.
    """
    fits = len(outputs) == count and outputs[0].is_floating_point() and outputs[0].ndim == 2
    if not fits or outputs[0].shape[1] != width:
        return f"its output is not (N, {width}) numbers" + (f", and {count - 1} outputs more" if count > 1 else "")
    labels = outputs[0][:, 2 + box]
    return "" if ((labels >= 0) & (labels < classes)).all() else f"it has labels that are none of {classes}"


class Bare(nn.Module):
    """What is exported of a fused model: images (B, 3, H, W) uint8 RGB, letterboxed, to the outputs of its form."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.tensors = model, form_of(model.task).tensors
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.float() for x in self.tensors(self.model, self.model(images)))


def require_exportable(model: Model, path: str) -> None:
    """Raises UserError for a model whose task has no export form, or whose graph depends on the image."""
    task = get_task(model.task)
    if task.export is None:
        other = f": it is used by {task.own_commands}" if task.own_commands else ""
        raise UserError(f"{path} is {task.with_article}, which is not exported{other}")
    if model.dims != 2:
        raise UserError(f"{path} takes signals or volumes: only models for images are exported")
    if not model.fixed_graph:
        raise UserError(
            f"{path} is a {model.config.kind}: which regions it looks at depends on the image, so it has no fixed "
            "graph to export; the grid detectors (yolo_n ...) have one"
        )


def is_square(model: Model) -> bool:
    """Whether the graph holds for square images of one size alone, however it is exported."""
    return model.square or model.size_in_graph
