"""The anchor-free decoupled head: one prediction for each cell, box sides as distances from the centre of the cell.

Each distance is the mean of a distribution over bins of one stride (generalized focal loss, Li et al., 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from anchors import grid
from detect.models.backbones.blocks import flat, tower
from detect.models.losses.boxes import distribution_loss
from detect.registry import register
from detect.types import HeadOutput, NamedRows

BINS = 16


@register("head", "point")
class PointHead(nn.Module):
    """forward(maps) -> HeadOutput: logits (B, A, C), regression (B, A, 4 * bins); A goes by levels, rows, columns.

    Args:
        channels: channels of the feature maps, finest first.
        strides: their strides.
        classes: number of classes.
        depth: 3x3 convolutions in each branch.
        anchors: not used; heads are built alike.
        act: activation.

    Attributes:
        extra: what a subclass predicts besides class and box, as the option of the loss that weighs it. Such a head
            has two methods more. `extra_rows(raw)` gives for each image the other fields of `Detections`, each with
            A rows. `extra_losses(raw, targets, matched, boxes, weight)` gives sums over P positive predictions:
            `raw` at these, all targets, (image, object) indices (P,) each, target boxes (P, 4), weights (P,).
    """

    extra = ""
    uses_anchors = False
    bins = BINS
    rare = -6.0  # initial bias of the logits of classes

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        depth: int,
        anchors: Sequence[Sequence[float]] = (),
        act: str = "hardswish",
    ):
        super().__init__()
        self.strides = list(strides)
        self.classify = nn.ModuleList(tower(c, classes, depth, act, [self.rare]) for c in channels)
        start = self.initial_regression()
        self.regress = nn.ModuleList(tower(c, len(start), depth, act, start) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        logits = torch.cat([flat(head(x)) for head, x in zip(self.classify, maps, strict=True)], 1)
        regression = torch.cat([flat(head(x)) for head, x in zip(self.regress, maps, strict=True)], 1)
        priors = grid.priors([(x.shape[2], x.shape[3]) for x in maps], self.strides, device=logits.device)
        return HeadOutput(logits, regression, priors)

    def initial_regression(self) -> list[float]:
        """Initial biases of the regression outputs: boxes are four cells wide, as most objects of a level are."""
        return 4 * [-0.4 * i for i in range(self.bins)]

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes, and how they are laid out: see `Model.named_rows`."""
        yield from ((tower[-1], NamedRows()) for tower in self.classify)  # type: ignore[index]

    def boxes(self, raw: HeadOutput) -> Tensor:
        """The predicted boxes (B, A, 4), or (P, 4), decoded from `raw`."""
        bins = torch.arange(self.bins, dtype=raw.regression.dtype, device=raw.regression.device)
        # A matrix, not a vector: ONNX Runtime multiplies by a vector a hundred times slower.
        distances = raw.regression.unflatten(-1, (4, self.bins)).softmax(-1) @ bins[:, None]
        return raw.priors.decode_distances(distances.squeeze(-1))

    def scores(self, raw: HeadOutput) -> Tensor:
        """Class scores (B, A, C) in 0..1."""
        return raw.logits.sigmoid()

    def regression_loss(self, raw: HeadOutput, boxes: Tensor) -> Tensor:
        """Distribution focal loss of P predictions for target boxes (P, 4): (P,)."""
        distances = raw.priors.encode_distances(boxes)
        return distribution_loss(raw.regression.unflatten(-1, (4, self.bins)), distances)
