"""The anchor-free head with keypoints: beside its box every prediction says where K points of its object are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.models.backbones.blocks import flat, tower
from detect.models.heads.point import PointHead
from detect.models.keypoints import sigmas
from detect.models.losses.keypoints import similarity_loss
from detect.types import HeadOutput, NamedRows

REACH = 2.0  # strides that a point moves when its number grows by one


class KeypointHead(PointHead):
    """forward(maps) -> HeadOutput with, besides those of PointHead, keypoints (B, A, K, 3): x, y, visibility logit."""

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        depth: int,
        keypoint_names: Sequence[str],
        act: str = "hardswish",
    ):
        super().__init__(channels, strides, classes, depth, act=act)
        self.count = len(keypoint_names)
        self.landmarks = nn.ModuleList(tower(c, 3 * self.count, depth, act, [0.0]) for c in channels)
        self.sigmas: Tensor
        self.register_buffer("sigmas", torch.tensor(sigmas(keypoint_names)), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        points = torch.cat([flat(head(x)) for head, x in zip(self.landmarks, maps, strict=True)], 1)
        return super().forward(maps)._replace(keypoints=points.unflatten(-1, (self.count, 3)))

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes or keypoints, and how: see `Model.named_rows`."""
        yield from super().named_rows()
        yield from ((tower[-1], NamedRows("keypoint_names", each=3)) for tower in self.landmarks)  # type: ignore[index]

    def places(self, raw: HeadOutput) -> Tensor:
        """The points (..., K, 2) x, y that `raw` stands for, in canvas pixels."""
        assert raw.keypoints is not None
        reach = REACH * raw.priors.strides[:, None, None]
        return raw.priors.centers[:, None] + raw.keypoints[..., :2] * reach

    def points(self, raw: HeadOutput) -> Tensor:
        """The points (..., K, 3): x, y in canvas pixels and the probability of being labelled."""
        assert raw.keypoints is not None
        return torch.cat([self.places(raw), raw.keypoints[..., 2:].sigmoid()], -1)

    def point_losses(self, raw: HeadOutput, wanted: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Of P predictions, (P,) each: how far the points are from `wanted` (P, K, 3), and whether they are there.

        An object none of whose points is labelled says nothing of either.
        """
        assert raw.keypoints is not None
        there = wanted[..., 2] > 0
        seen = binary_cross_entropy_with_logits(raw.keypoints[..., 2], there.to(raw.keypoints.dtype), reduction="none")
        distance = similarity_loss(self.places(raw), wanted[..., :2], there, boxes, self.sigmas)
        return {"keypoints": distance, "seen": seen.mean(-1) * there.any(-1)}
