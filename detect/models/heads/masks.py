"""The anchor-free head with masks: a mask is a sum of prototypes, weighted by coefficients of each prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detect.models.backbones.blocks import Conv, Predict, flat, tower
from detect.models.heads.point import PointHead
from detect.models.losses.masks import mask_loss, sample_maps, sample_points
from detect.prototype_masks import PrototypeMasks
from detect.types import HeadOutput, Target

PROTOTYPES = 32
FINER = 2  # how much finer than the finest feature map the prototypes are
SEVERAL = 8  # most predictions of an object that its mask is learned from


class MaskHead(PointHead):
    """forward(maps) -> HeadOutput as of PointHead, with coefficients (B, A, K) and prototypes (B, K, h, w).

    The logits of a mask are the sum over K of its coefficients times the prototypes.

    Reference:
        Bolya et al., YOLACT, 2019.
    """

    extra = "masks"

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, depth: int, act: str = "hardswish"
    ):
        super().__init__(channels, strides, classes, depth, act=act)
        self.stride = strides[0] / FINER
        self.coefficients = nn.ModuleList(tower(c, PROTOTYPES, depth, act, [0.0]) for c in channels)
        width = channels[0]
        self.prototypes = nn.Sequential(
            Conv(width, width, 3, act=act),
            Conv(width, FINER**2 * PROTOTYPES, 1, act=act),
            nn.PixelShuffle(FINER),
            Predict(PROTOTYPES, PROTOTYPES, 3, padding=1),
        )

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        coefficients = torch.cat([flat(head(x)) for head, x in zip(self.coefficients, maps, strict=True)], 1)
        return super().forward(maps)._replace(coefficients=coefficients, prototypes=self.prototypes(maps[0]))

    def extra_rows(self, raw: HeadOutput) -> list[dict[str, Any]]:
        """The masks of each image, as a field of `Detections`: see `PointHead.extra`."""
        assert raw.coefficients is not None and raw.prototypes is not None
        pairs = zip(raw.prototypes.detach(), raw.coefficients.detach(), strict=True)
        return [{"masks": PrototypeMasks(*pair)} for pair in pairs]

    def extra_losses(
        self,
        raw: HeadOutput,
        targets: Sequence[Target],
        matched: tuple[Tensor, Tensor],
        boxes: Tensor,
        weight: Tensor,
    ) -> dict[str, Tensor]:
        """The sum of the losses of masks. Args: see `PointHead.extra`. An object without a mask has no loss."""
        assert raw.coefficients is not None and raw.prototypes is not None
        sizes = [len(t) for t in targets]
        starts = torch.tensor([0, *sizes[:-1]], device=weight.device).cumsum(0)
        known = [t.masks for t in targets if t.masks is not None]
        if sum(map(len, known)) != sum(sizes):  # targets of boxes alone
            return {"masks": 0 * raw.prototypes.sum() + 0 * raw.coefficients.sum()}
        number, row = (starts[matched[0]] + matched[1]).unique(return_inverse=True)  # of the objects in the batch
        slots = best_of_each(row, weight, len(number))
        first = slots[:, 0]
        points, shares = sample_points(torch.cat(known).to(weight.device)[number], boxes[first])
        room = points.new_tensor(raw.prototypes.shape[:-3:-1]) * self.stride
        inside = ((points >= 0) & (points < room)).all(-1)
        samples = sample_maps(raw.prototypes, matched[0][first], points / self.stride)
        losses = mask_loss(raw.coefficients[slots], samples, shares, inside)
        return {"masks": (weight[slots] * (slots >= 0) * losses).sum()}


def best_of_each(row: Tensor, weight: Tensor, count: int) -> Tensor:
    """The indices of the predictions of each object, those of the greatest weight first: (O, Q), -1 where none is left.

    Args:
        row: the object (P,) of each prediction, each of `count` objects at least once.
        weight: of each prediction (P,).
        count: O.
    """
    order = weight.argsort(descending=True, stable=True)
    order = order[row[order].argsort(stable=True)]
    sizes = row.bincount(minlength=count)
    rank = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    some = rank < SEVERAL
    slots = row.new_full((count, int(rank[some].max()) + 1 if len(row) else 1), -1)
    return slots.index_put((row[order][some], rank[some]), order[some])
