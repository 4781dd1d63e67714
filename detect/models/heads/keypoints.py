"""The anchor-free head with keypoints: each prediction has a box and the K keypoints of its object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence

from detect.models.backbones.blocks import flat, tower
from detect.models.heads.point import PointHead
from detect.models.keypoints import sigmas
from detect.models.losses.keypoints import similarity_loss
from detect.types import HeadOutput, NamedRows, Target

REACH = 2.0  # strides that a keypoint moves for an output of one


class KeypointHead(PointHead):
    """forward(maps) -> HeadOutput as of PointHead, with keypoints (B, A, K, 3): x, y, visibility logit."""

    extra = "keypoints"

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

    def extra_rows(self, raw: HeadOutput) -> list[dict[str, Any]]:
        """The keypoints of each image, as a field of `Detections`: see `PointHead.extra`."""
        return [{"keypoints": points} for points in self.keypoints(raw).detach().float()]

    def extra_losses(
        self,
        raw: HeadOutput,
        targets: Sequence[Target],
        matched: tuple[Tensor, Tensor],
        boxes: Tensor,
        weight: Tensor,
    ) -> dict[str, Tensor]:
        """The sums of the losses of position and of visibility. Args: see `PointHead.extra`.

        An object none of whose keypoints is labelled has no loss.
        """
        assert raw.keypoints is not None
        k = raw.keypoints.shape[1]
        keypoints = [torch.zeros(len(t), k, 3) if t.keypoints is None else t.keypoints for t in targets]
        target_keypoints = pad_sequence(keypoints, batch_first=True).to(weight.device)[matched]
        there = target_keypoints[..., 2] > 0
        seen = binary_cross_entropy_with_logits(raw.keypoints[..., 2], there.to(raw.keypoints.dtype), reduction="none")
        distance = similarity_loss(self.positions(raw), target_keypoints[..., :2], there, boxes, self.sigmas)
        seen = seen.mean(-1) * there.any(-1)
        return {"keypoints": (weight * distance).sum(), "seen": (weight * seen).sum()}
