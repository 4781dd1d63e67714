"""A teacher: a second model whose predictions add terms to the loss of the model that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from detect.types import LossTerm, Target


class Lesson(NamedTuple):
    """A batch of a training step, as a teacher gets it.

    Attributes:
        images: (B, 3, H, W) uint8, augmented.
        targets: one for each image.
        maps: the feature maps that the student computed for the images.
        raw: what the student's `forward` returned for them.
        count: (1,) or () the normalizer of the student's own loss terms.
        unlabelled: (U, 2, 3, H, W) uint8, a weak and a strong view of images without labels; None: there are none.
    """

    images: Tensor
    targets: Sequence[Target]
    maps: list[Tensor]
    raw: Any
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which is not needed
    unlabelled: Tensor | None = None

    def term(self, mean: Tensor) -> LossTerm:
        """A loss term of a mean over this batch, which weighs as much among batches as the loss of the labels does.

        So all terms of a model have one normalizer, and gradients may be accumulated over batches and ranks.
        """
        return LossTerm(mean * self.count.clamp(min=1), self.count)


class Teacher(nn.Module):
    """Adds loss terms to those of the labels.

    Its parameters are trained with the student's. They and its buffers are in the checkpoint, not in the weights file;
    the model that teaches is in neither: a subclass keeps it out of its submodules.
    """

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
