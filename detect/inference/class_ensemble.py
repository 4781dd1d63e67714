"""Classes of images by the mean probabilities of several classifiers, over several views of each image."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from detect.data.letterbox import Letterbox
from detect.errors import UserError
from detect.inference.predictor import prefetch
from detect.models.class_views import canvas_side, mean_over_views
from detect.models.classifier import top_classes
from detect.types import Classification, Frame, Postprocess
from detect.utils.device import autocast

if TYPE_CHECKING:
    from detect.api import Detector


def require_same_classes(members: Sequence[Detector], weights: Sequence[str]) -> None:
    """Raises UserError unless all members are of one task and have the classes of the first, in its order."""
    for path, member in zip(weights, members, strict=True):
        if member.model.task != members[0].model.task or member.names != members[0].names:
            raise UserError(f"{path}: its classes are not those of the first weights: they cannot be averaged")


class ClassEnsemble:
    """Predicts the class of images, one by one.

    Args:
        members: classifiers of images, with the same classes.
        keep: which classes are kept.
        size: image size in pixels; 0: that of each member's training.
        crops: views of an image, 1 to 10; see `detect.models.class_views.views`.

    Raises:
        UserError: a member does not take that size.
    """

    def __init__(self, members: Sequence[Detector], keep: Postprocess, size: int = 0, crops: int = 1) -> None:
        self.members, self.keep, self.crops = members, keep, crops
        self.sides = [member.side(size) for member in members]

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Classification], None, None]:
        """Each frame with its classes."""
        with closing(prefetch(frames, ahead=4)) as coming:
            for frame in coming:
                scores = [self._scores(*pair, frame) for pair in zip(self.members, self.sides, strict=True)]
                yield frame, top_classes(torch.stack(scores).mean(0), self.keep)[0]

    @torch.inference_mode()
    def _scores(self, member: Detector, side: int, frame: Frame) -> Tensor:
        """The mean probabilities (1, C) of one member."""
        canvas = canvas_side(side, self.crops)
        fit = Letterbox.fit(frame.image.shape[:2], canvas, member.metadata.preprocess, member.model.square)
        image = torch.from_numpy(fit.apply(frame.image))[None].to(member.device).permute(0, 3, 1, 2)
        return mean_over_views(member.model, image, side, self.crops, autocast(member.device, member.dtype))
