"""Runs exported files behind the interface of a model, for prediction and evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anchors.oriented import canonical, oriented_bounds
from detect.errors import UserError
from detect.export.fastest import fastest
from detect.export.formats import Run, format_of
from detect.export.forms import box_width, extra_axes, form_of, misfit
from detect.export.metadata import About
from detect.types import Detections, Postprocess, Preprocess
from detect.utils.device import spelled
from detect.utils.operators import require_operators


class Exported:
    """A file that `detect export` wrote.

    Called with images (B, 3, H, W) uint8 RGB, it returns the outputs of its task; with NMS inside, for each image its
    rows (N, 6 or more) and the outputs that these share. `computed` says in which precision the runtime computes, and
    `chosen` is the value of --precision for it.
    """

    needs_proposals = False

    def __init__(self, path: Path, about: About, run: Run) -> None:
        self.path, self.about, self.run, self.computed = path, about, run, about.precision
        self.metadata, self.task, self.square = about.metadata, about.task, about.square
        self.chosen = "auto"

    @property
    def pixels(self) -> Preprocess:
        """How images are letterboxed; the rest of preprocessing is inside the file."""
        return self.metadata.preprocess

    def for_inference(self, device: torch.device, dtype: torch.dtype) -> Exported:
        """The same object: it was prepared when it was opened."""
        return self

    def require_side(self, side: int) -> None:
        """Raise a UserError if the file only takes another image size."""
        if self.square and side != self.metadata.size:
            raise UserError(
                f"{self.path} takes images of {self.metadata.size} px only: leave --imgsz out, or "
                "export one of another size"
            )

    def __call__(self, images: Tensor) -> Sequence[Any]:
        parts = [images] if self.about.dynamic else images.split(1)
        outputs = [self._outputs(part) for part in parts]
        if not self.about.suppressed:
            return [torch.cat(one) for one in zip(*outputs, strict=True)]
        counts = [len(part) for part in parts]
        return [
            (detections[detections[:, 0] == i, 1:], *(one[i] for one in shared))
            for (detections, *shared), n in zip(outputs, counts, strict=True)
            for i in range(n)
        ]

    def _outputs(self, images: Tensor) -> Sequence[Tensor]:
        """Run the file.

        Raises:
            UserError: it cannot be run, or its outputs are not those that its metadata declare.
        """
        try:
            outputs = self.run(images)
        except Exception as error:  # each runtime has exceptions of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.path} cannot be run: {reason[:200]}; export it again") from error
        wrong = misfit(self.about, outputs, len(images))
        if wrong:
            raise UserError(f"{self.path} has other outputs than its metadata declare: {wrong}; export it again")
        return outputs

    def scores(self, raw: Sequence[Tensor]) -> Tensor:
        """The class probabilities (B, C) of a classifier."""
        return raw[0]

    def postprocess(self, raw: Sequence[Tensor], keep: Postprocess) -> list[Any]:
        """The result for each image, in canvas pixels.

        Raises:
            UserError: NMS inside the file has already dropped boxes that `keep` asks for.
        """
        if not self.about.suppressed:
            return form_of(self.task).decode(raw, keep)
        about = self.about
        if keep.score < about.conf or keep.limit > about.max_det:
            raise UserError(
                f"{self.path} was exported with --nms: boxes at or below a score of {about.conf:g} and more than "
                f"{about.max_det} are left out; ask for --conf {about.conf:g} --max-det {about.max_det}, or "
                "export without --nms"
            )
        if (keep.iou, keep.agnostic, keep.soft) != (about.iou, False, False):
            raise UserError(
                f"{self.path} was exported with --nms, which suppressed its boxes by IoU {about.iou:g} in each class: "
                f"ask for --iou {about.iou:g} alone, or export without --nms"
            )
        return [self._detections(rows, shared, keep) for rows, *shared in raw]

    def _detections(self, rows: Tensor, shared: Sequence[Tensor], keep: Postprocess) -> Detections:
        """Rows (N, 6 or more) of one image, with what they share, as Detections by descending score.

        Raises:
            UserError: boxes of the chosen classes may be among those that the file left out at its limit.
        """
        axes = extra_axes(self.about).values()
        width = box_width(self.about)
        parts = rows[:, width + 2 :].split([math.prod(one) for one in axes], 1)
        extras = [part.unflatten(1, one) for part, one in zip(parts, axes, strict=True)]
        fields = dict(form_of(self.task).fields(*extras, *shared))
        boxes = rows[:, :width]
        if width == 5:
            fields["oriented"] = canonical(boxes)
            boxes = oriented_bounds(fields["oriented"])
        detections = Detections(boxes, rows[:, width], rows[:, width + 1].long(), **fields)
        wanted = detections.scores > keep.score
        full = len(rows) >= self.about.max_det and bool(wanted.all())  # otherwise all above `keep.score` are there
        if keep.class_scores is not None:
            wanted &= detections.scores > torch.tensor(keep.class_scores)[detections.labels]
        if keep.classes is not None:
            wanted &= torch.isin(detections.labels, torch.tensor(keep.classes))
        if full and int(wanted.sum()) < keep.limit and keep.classes is not None:
            raise UserError(
                f"{self.path} was exported with --nms and has the best {len(rows)} boxes of all classes: more of "
                "--classes may be left out; export with a larger --max-det, or without --nms"
            )
        keep.limit_hits.add(limited=full or int(wanted.sum()) > keep.limit)
        return detections[wanted][: keep.limit]


def is_exported(path: str | Path) -> bool:
    """Whether `path` is an exported file, by its suffix and by what is in it."""
    return format_of(path) is not None


def open_exported(path: str | Path, device: str = "auto", precision: str = "auto") -> Exported:
    """Open an exported file.

    Raises:
        UserError: the file, device or precision cannot be used.
    """
    path, kind = Path(path), format_of(path)
    if kind is None or not path.is_file():
        raise UserError(f"{path} does not exist: check the path, or write the file with detect export")
    precisions = kind.precisions()
    if precision not in ("auto", *precisions) and len(precisions) == 1:
        reason = (
            f"that of {path} was chosen by detect export"
            if precisions == ["auto"]
            else f"this processor runs {path} in {precisions[0]} only"
        )
        raise UserError(f"--precision {precision}: {reason}; leave it out")

    def opened(name: str) -> Exported:
        about, run = kind.open(path, spelled(device), name)
        if form_of(about.task).rows:
            require_operators()
        return Exported(path, about, run)

    if len(precisions) == 1:
        return opened(precisions[0])
    if precision != "auto":
        file, faster = opened(precision), ""
    else:
        parts = [path, *(path.with_suffix(suffix) for suffix in kind.companions)]
        file, precision, speed = fastest(opened, precisions, kind.runtime, parts)
        faster = f" (measured {speed:.2f} times as fast as {precisions[0]} here)" if speed > 1 else ""
    file.chosen = precision
    file.computed = f"{'int8 and ' if file.about.precision == 'int8' else ''}{precision}{faster}"
    return file
