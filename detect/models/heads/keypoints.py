"""The anchor-free head with keypoints: each prediction has a box and the K keypoints of its object."""

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

REACH = 2.0  # strides that a keypoint moves for an output of one


class KeypointHead(PointHead):
    """forward(maps) -> HeadOutput as of PointHead, with keypoints (B, A, K, 3): x, y, visibility logit."""

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
        """The layers whose outputs belong to classes or keypoints, and how they are laid out."""
        yield from super().named_rows()
        yield from ((tower[-1], NamedRows("keypoint_names", each=3)) for tower in self.landmarks)  # type: ignore[index]

    def positions(self, raw: HeadOutput) -> Tensor:
        """The predicted keypoints (..., K, 2) x, y, decoded from `raw`, in canvas pixels."""
        assert raw.keypoints is not None
        reach = REACH * raw.priors.strides[:, None, None]
        return raw.priors.centers[:, None] + raw.keypoints[..., :2] * reach

    def keypoints(self, raw: HeadOutput) -> Tensor:
        """The predicted keypoints (..., K, 3): x, y in canvas pixels and the probability of being labelled."""
        assert raw.keypoints is not None
        return torch.cat([self.positions(raw), raw.keypoints[..., 2:].sigmoid()], -1)

    def keypoint_losses(self, raw: HeadOutput, target_keypoints: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """The loss of position and of visibility of P predictions, (P,) each.

        An object none of whose keypoints is labelled has no loss.

        Args:
            raw: the predictions.
            target_keypoints: (P, K, 3) x, y, visibility.
            boxes: target boxes (P, 4).
        """
        assert raw.keypoints is not None
        there = target_keypoints[..., 2] > 0
        seen = binary_cross_entropy_with_logits(raw.keypoints[..., 2], there.to(raw.keypoints.dtype), reduction="none")
        distance = similarity_loss(self.positions(raw), target_keypoints[..., :2], there, boxes, self.sigmas)
        return {"keypoints": distance, "seen": seen.mean(-1) * there.any(-1)}
