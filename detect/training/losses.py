"""The loss of a batch: of the labels, and of the teachers if there are any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from detect.errors import UserError
from detect.models.base import Model
from detect.training.teacher import Lesson
from detect.types import LossTerm, Target


class Losses(nn.Module):
    """The model and its loss as one module, so that DistributedDataParallel sees every parameter that the loss uses.

    Args:
        model: the model that is trained.
        teachers: each a `Teacher`.
    """

    def __init__(self, model: Model, teachers: Iterable[nn.Module] = ()):
        super().__init__()
        self.model, self.teachers = model, nn.ModuleList(teachers)

    def forward(
        self, images: Tensor, targets: Sequence[Target], unlabelled: Tensor | None = None
    ) -> tuple[list[str], Tensor, Tensor]:
        """Compute the loss terms of a batch.

        Args:
            images: (B, 3, H, W) uint8.
            targets: one for each image.
            unlabelled: (U, 2, 3, H, W) uint8, two views of images without labels.

        Returns:
            The names of the T loss terms, their totals (T,) and their counts (T,).
        """
        try:
            terms = self._taught(images, targets, unlabelled) if len(self.teachers) else self._plain(images, targets)
        except ValueError as error:  # torch's, of a batch of one image whose last map is one cell
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                f"batch normalization gets a single value for each channel in a batch of {len(targets)}: "
                "choose a --batch that leaves no single image over, or a larger --imgsz"
            ) from error
        totals = torch.stack([t.total for t in terms.values()])
        return list(terms), totals, torch.stack([t.count for t in terms.values()]).detach()

    def _plain(self, images: Tensor, targets: Sequence[Target]) -> dict[str, LossTerm]:
        terms: dict[str, LossTerm] = self.model.loss(self.model(images, targets), targets)
        return terms

    def _taught(self, images: Tensor, targets: Sequence[Target], unlabelled: Tensor | None) -> dict[str, LossTerm]:
        maps = self.model.features(images, targets)
        raw = self.model.forward_head(maps, targets)
        terms: dict[str, LossTerm] = self.model.loss(raw, targets)
        lesson = Lesson(images, targets, maps, raw, terms, unlabelled)
        for teacher in self.teachers:
            terms = terms | teacher(self.model, lesson)
        return terms
