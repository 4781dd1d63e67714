"""The anchor-free decoupled head: one prediction a cell, box sides as distances from the cell's centre.

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
    """forward(maps) -> HeadOutput: logits (B, A, C), regression (B, A, 4 * BINS); A runs over levels, rows, columns."""

    uses_anchors = False

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
        self.classify = nn.ModuleList(tower(c, classes, depth, act, [-6.0]) for c in channels)
        near = [-0.4 * i for i in range(BINS)]  # boxes start about four cells wide, as most objects of a level are
        self.regress = nn.ModuleList(tower(c, 4 * BINS, depth, act, near) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        logits = torch.cat([flat(head(x)) for head, x in zip(self.classify, maps, strict=True)], 1)
        regression = torch.cat([flat(head(x)) for head, x in zip(self.regress, maps, strict=True)], 1)
        priors = grid.priors([(x.shape[2], x.shape[3]) for x in maps], self.strides, device=logits.device)
        return HeadOutput(logits, regression, priors)

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes, and how: see `Model.named_rows`."""
        yield from ((tower[-1], NamedRows()) for tower in self.classify)  # type: ignore[index]

    def boxes(self, raw: HeadOutput) -> Tensor:
        """The boxes (B, A, 4), or (P, 4), that `raw` stands for."""
        bins = torch.arange(BINS, dtype=raw.regression.dtype, device=raw.regression.device)
        distances = raw.regression.unflatten(-1, (4, BINS)).softmax(-1) @ bins
        return raw.priors.decode_distances(distances)

    def scores(self, raw: HeadOutput) -> Tensor:
        """Class scores (B, A, C) in 0..1."""
        return raw.logits.sigmoid()

    def code_loss(self, raw: HeadOutput, boxes: Tensor) -> Tensor:
        """How far P predictions are from `boxes` (P, 4) in the head's own code: (P,)."""
        distances = raw.priors.encode_distances(boxes)
        return distribution_loss(raw.regression.unflatten(-1, (4, BINS)), distances)
