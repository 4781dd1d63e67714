"""Distillation: a student learns from labels and from what another detector predicts for the same augmented images.

Any two detectors with dense heads have in common that they predict class scores and a box at many places of the image.
So each prediction of the student is compared with the teacher's at the same place, on the level of about the same
stride: scores everywhere, boxes where the teacher is confident (Zheng et al., 2022, arXiv 2102.12252), and feature maps
of equal stride by their correlation, through a 1x1 convolution (Cao et al., 2022, arXiv 2207.02039).

Axes: B batch, A predictions of the student, K of the teacher at one place, C classes that both have.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from anchors.grid import Priors
from detect.config.teacher import DistillConfig
from detect.errors import UserError
from detect.models.base import Model
from detect.models.losses.classes import BCE
from detect.training.teacher import Lesson, Teacher, require_dense
from detect.types import HeadOutput, LossTerm
from detect.utils.names import say


class Distillation(Teacher):
    """The distance of a student's predictions and feature maps from a teacher's.

    Args:
        student: the model that is trained.
        teacher: a detector for inference, on the device of the student.
        config: weights and threshold.
        tell: whether to print what cannot be compared.

    Attributes:
        project: a 1x1 convolution for each pair of feature maps, from the student's channels to the teacher's.

    Raises:
        UserError: one of the two has no dense head, or they have no class or no form of boxes in common.
    """

    def __init__(self, student: Any, teacher: Any, config: DistillConfig, tell: bool = False):
        super().__init__()
        require_dense(student, "--teacher")
        require_dense(teacher, "--teacher")
        self.config, self.teachers = config, [teacher]  # in a list: its weights are not this module's
        self.places: dict[tuple[int, int], Tensor] = {}
        names = {name: label for label, name in enumerate(teacher.metadata.names)}
        both = [(label, names[name]) for label, name in enumerate(student.metadata.names) if name in names]
        if not both:
            raise UserError(f"the teacher {teacher.config.name} has none of the classes of the data: choose another")
        self.own_labels, self.labels = ([pair[i] for pair in both] for i in (0, 1))
        missing = [name for name in student.metadata.names if name not in names]
        if missing and tell:
            say(f"the teacher does not know {', '.join(missing)}: these are learned from labels alone", sys.stderr)
        pairs = self._compared(student, teacher)
        if not pairs and config.features and tell:
            say("teacher and student have no feature maps of equal stride: scores and boxes are compared", sys.stderr)
        self.levels = [level for level, _, _ in pairs]
        self.project = nn.ModuleList(nn.Conv2d(own, other, 1) for _, own, other in pairs)

    def _compared(self, student: Any, teacher: Any) -> list[tuple[tuple[int, int], int, int]]:
        """Look at what both models return: pairs of feature maps of one size, as (levels, own channels, others)."""
        images = student.dummy_input(student.metadata.size)
        with torch.no_grad():
            maps = student.features(images)
            raw, (other_maps, other) = student.forward_head(maps), self._predict(teacher, images)
            forms = [model.candidates(output)[0].shape[-1] for model, output in ((student, raw), (teacher, other))]
        if forms[0] != forms[1]:
            raise UserError(
                f"{student.config.name} and its teacher {teacher.config.name} have boxes of different kinds: "
                "both must be oriented, or neither"
            )
        if not self.config.features:
            return []
        sizes = {x.shape[2:]: j for j, x in enumerate(other_maps)}
        found = [(i, sizes[x.shape[2:]]) for i, x in enumerate(maps) if x.shape[2:] in sizes]
        return [((i, j), maps[i].shape[1], other_maps[j].shape[1]) for i, j in found]

    def _predict(self, teacher: Any, images: Tensor) -> tuple[list[Tensor], Any]:
        """The teacher's feature maps and output for images (B, 3, H, W) of the student, at its own size."""
        if size := self.config.imgsz:
            images = interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        maps = teacher.features(images)
        return maps, teacher.forward_head(maps)

    def forward(self, student: Any, lesson: Lesson) -> dict[str, LossTerm]:
        """The terms `distill_classes`, `distill_box`, `distill_regression` and, with maps, `distill_features`."""
        with torch.no_grad():
            other_maps, other = self._predict(self.teachers[0], lesson.images)
            boxes, scores = self._targets(lesson, other)
        means = output_distances(student, lesson.raw, boxes, scores, self.own_labels, self.config.confidence)
        means = {name: self.config.weight * mean for name, mean in means.items()}
        if self.levels:
            pairs = zip(self.project, self.levels, strict=True)
            each = [correlation_loss(project(lesson.maps[i]), other_maps[j]) for project, (i, j) in pairs]
            means["features"] = self.config.features * torch.stack(each).mean()
        return {f"distill_{name}": lesson.term(mean) for name, mean in means.items()}

    def _targets(self, lesson: Lesson, other: HeadOutput) -> tuple[Tensor, Tensor]:
        """The teacher's box (B, A, 4) and scores (B, A, C) for each prediction of the student, in its pixels."""
        boxes, scores = (x.float() for x in self.teachers[0].candidates(other))
        height, width = lesson.images.shape[-2:]
        scale = max(height, width) / self.config.imgsz if self.config.imgsz else 1.0
        if (height, width) not in self.places:
            self.places[height, width] = same_places(lesson.raw.priors, other.priors, scale)
        place, scores = self.places[height, width], scores[..., self.labels]
        best = scores.amax(-1)[:, place].argmax(-1)  # (B, A) which of the K at a place
        chosen = place.expand(len(best), -1, -1).gather(-1, best[..., None])
        boxes = torch.cat([scale * boxes[..., :4], boxes[..., 4:]], -1)
        return tuple(x.gather(1, chosen.expand(-1, -1, x.shape[-1])) for x in (boxes, scores))  # type: ignore[return-value]


def same_places(own: Priors, others: Priors, scale: float = 1.0) -> Tensor:
    """Which priors of a teacher lie where each prior of a student does.

    Args:
        own: A priors of the student.
        others: priors of the teacher, those of a level in rows and columns, K at each place.
        scale: pixels of the student for one pixel of the teacher.

    Returns:
        (A, K) indices into `others`: the cell that holds the centre, on the level whose stride is nearest by ratio.

    Raises:
        UserError: the levels of the teacher have different numbers of anchors.
    """
    strides = others.strides.unique()
    level = (own.strides[:, None].log() - (scale * strides).log()).abs().argmin(1)
    found: list[Tensor] = []
    for stride in strides.tolist():
        rows = torch.where(others.strides == stride)[0]
        columns, lines = (others.centers[rows, axis].unique().numel() for axis in (0, 1))
        each = len(rows) // (columns * lines)
        limit = own.centers.new_tensor([columns - 1, lines - 1])
        x, y = torch.minimum((own.centers / (scale * stride)).floor(), limit).long().unbind(-1)
        first = rows[0] + (y * columns + x) * each
        found.append(first[:, None] + torch.arange(each, device=first.device))
    if len({x.shape for x in found}) > 1:
        raise UserError("the levels of the teacher have different numbers of anchors: choose another teacher")
    return torch.stack(found)[level, torch.arange(len(level), device=level.device)]


def output_distances(
    student: Any, raw: HeadOutput, boxes: Tensor, scores: Tensor, labels: list[int], confidence: float
) -> dict[str, Tensor]:
    """The distance of a student's predictions from soft targets, normalized by the scores of confident ones.

    Args:
        student: a model with a dense head.
        raw: what it returned.
        boxes: (B, A, 4) target boxes, or (B, A, 5).
        scores: (B, A, C) target scores.
        labels: the C labels of the student.
        confidence: score from which a box is a target.

    Returns:
        The scalars `classes` (the divergence of Kullback and Leibler), `box` and `regression`.
    """
    loss, head = student.config.loss, student.head
    best = scores.amax(-1)
    positive, used = best > confidence, torch.ones_like(best, dtype=torch.bool)
    if raw.priors.boxes is not None:  # of several anchors at a place, the one of the best shape learns the box
        fits = best_anchor(raw.priors.boxes, boxes, head.anchors)
        used, positive = ~positive | fits, positive & fits
    at = torch.where(positive)
    outputs, targets, weight = raw.at(at), boxes[at], best[at]
    count = weight.sum().clamp(min=1)
    divergence = (
        BCE(score_logits(raw)[..., labels], scores) - torch.special.entr(scores) - torch.special.entr(1 - scores)
    )
    return {
        "classes": loss.classes * (divergence * used[..., None]).sum() / count,
        "box": loss.box * (weight * student.box_loss(head.boxes(outputs), targets)).sum() / count,
        "regression": loss.regression * (weight * head.regression_loss(outputs, targets)).sum() / count,
    }


def score_logits(raw: HeadOutput) -> Tensor:
    """The logits (B, A, C) of the scores: of a class, or of objectness o times class c, log p / (1 - p).

    For p = sigmoid(o) sigmoid(c) that is -log(exp(-o) + exp(-c) + exp(-o - c)).
    """
    logits = raw.logits.float()
    if raw.objectness is None:
        return logits
    o, c = torch.broadcast_tensors(-raw.objectness.float()[..., None], -logits)
    return -torch.logsumexp(torch.stack([o, c, o + c]), 0)


def best_anchor(anchors: Tensor, boxes: Tensor, each: int) -> Tensor:
    """Whether an anchor's sides fit the box of its place best among those there.

    Args:
        anchors: (A, 4), `each` at a place, one after the other.
        boxes: (B, A, 4).
        each: anchors at a place.

    Returns:
        (B, A) bool.
    """
    sides, others = (x[..., 2:4] - x[..., :2] for x in (anchors, boxes))
    inner = torch.minimum(sides, others).clamp(min=0).prod(-1)
    iou = (inner / (sides.prod(-1) + others.clamp(min=0).prod(-1) - inner).clamp(min=1e-6)).unflatten(1, (-1, each))
    return torch.zeros_like(iou, dtype=torch.bool).scatter(-1, iou.argmax(-1, keepdim=True), True).flatten(1)


def correlation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """One minus the correlation of each channel over a batch of feature maps (B, C, H, W), mean over the channels."""
    a, b = (standardized(x.float()) for x in (predicted, target))
    return mse_loss(a, b) / 2


def standardized(maps: Tensor) -> Tensor:
    """Feature maps (B, C, H, W) whose channels have mean 0 and variance 1 over the batch."""
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), keepdim=True, correction=0)
    return (maps - mean) * (variance + 1e-5).rsqrt()


def digest(model: Model) -> str:
    """A hash of the weights of a model."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]
