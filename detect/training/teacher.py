"""A teacher: a second model whose predictions add terms to the loss of the model that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detect.errors import UserError
from detect.types import HeadOutput, LossTerm, Target


class Lesson(NamedTuple):
    """A batch of a training step, as a teacher gets it.

    Attributes:
        images: (B, 3, H, W) uint8, augmented.
        targets: one for each image.
        maps: the feature maps that the student computed for the images.
        raw: what the student's `forward` returned for them.
        terms: the student's own loss terms.
        unlabelled: (U, 2, 3, H, W) uint8, a weak and a strong view of images without labels; None: there are none.
    """

    images: Tensor
    targets: Sequence[Target]
    maps: list[Tensor]
    raw: Any
    terms: Mapping[str, LossTerm]
    unlabelled: Tensor | None = None

    @property
    def normalizer(self) -> Tensor:
        """The count of the student's own loss terms, or of the first where they differ."""
        return next(iter(self.terms.values())).count.detach()

    def term(self, mean: Tensor) -> LossTerm:
        """A loss term of a mean over this batch, which weighs as much among batches as the loss of the labels does.

        So all terms of a model have one normalizer, and gradients may be accumulated over batches and ranks.
        """
        return LossTerm(mean * self.normalizer.clamp(min=1), self.normalizer)


class Teacher(nn.Module):
    """Adds loss terms to those of the labels.

    Its parameters are trained with the student's. They and its buffers are in the checkpoint, not in the weights file;
    the model that teaches is in neither: a subclass keeps it out of its submodules.
    """

    def begin(self, average: Any) -> None:
        """Called once before the first step with the moving average of the student."""

    def forward(self, student: Any, lesson: Lesson) -> dict[str, LossTerm]:
        """The loss terms of a batch, by name.

        Args:
            student: the model that is trained.
            lesson: the batch.
        """
        raise NotImplementedError

    def metrics(self) -> dict[str, float]:
        """Numbers of the epoch for its row of metrics.jsonl; it begins to count anew."""
        return {}


@torch.no_grad()
def require_dense(model: Any, flag: str) -> None:
    """Check that a model predicts densely, as teachers and their students do.

    Args:
        model: the model; it is left in evaluation mode.
        flag: the flag that asks for it, for the message.

    Raises:
        UserError: it does not.
    """
    images = model.eval().dummy_input(model.metadata.size)
    if model.needs_proposals or not isinstance(model(images), HeadOutput):
        raise UserError(
            f"{model.config.name} has no dense head: {flag} takes models such as yolo_*, yolox_*, picodet_* and those "
            "that a Darknet cfg describes"
        )
