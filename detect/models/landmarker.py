"""Landmarks: K keypoints of the one object that an image shows, as coordinates or from heatmaps.

Axes: B batch, K keypoints, P labelled keypoints, H and W cells of a heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.configs.landmarker import LandmarkerConfig
from detect.models.heads.single_object import LandmarkOutput
from detect.models.keypoints import around
from detect.models.losses.keypoints import spread_loss
from detect.models.necks import build_pyramid
from detect.models.single_object import SingleObjectModel, canvas_sizes
from detect.registry import REGISTRIES
from detect.types import Detections, LossTerm, Postprocess, Target


class Landmarker(SingleObjectModel):
    """images (B, 3, S, S) uint8 -> LandmarkOutput. The object of an image is the first one of its target."""

    config: LandmarkerConfig

    def loss(self, raw: LandmarkOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Position, and heatmap where there is one, of labelled keypoints; visibility of all keypoints.

        A keypoint that is not labelled (visibility 0) has no position that could be wrong.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.
        """
        w, k, device = self.config.loss, raw.keypoints.shape[1], raw.keypoints.device
        first = [t.keypoints[0] if t.keypoints is not None and len(t) else torch.zeros(k, 3) for t in targets]
        target_keypoints = torch.stack(first).to(device, non_blocking=True)
        there = target_keypoints[..., 2] > 0
        part = 100 / canvas_sizes(targets, device)[:, None].expand(-1, k, -1)[there]
        target_points = target_keypoints[..., :2][there]
        distance = REGISTRIES["loss.keypoint"][w.keypoint_kind](raw.keypoints[there] * part, target_points * part)
        presence = binary_cross_entropy_with_logits(raw.presence, there.to(raw.presence.dtype), reduction="sum")
        terms = {"keypoints": LossTerm(w.keypoints * distance.mean(-1).sum(), there.sum())}
        if raw.heat is not None:
            cells = target_points / self.head.stride
            spread = spread_loss(raw.heat.flatten(2)[there], cells, raw.heat.shape[3])
            terms["heat"] = LossTerm(w.regression * spread.sum(), there.sum())
        return terms | {
            "presence": LossTerm(w.objectness * presence, torch.tensor(float(there.numel()), device=device))
        }

    def postprocess(self, raw: LandmarkOutput, keep: Postprocess) -> list[Detections]:
        """One detection for each image whose mean keypoint probability is above `keep.score`.

        Keypoints are x, y and the probability of being visible; the box is the one around the visible ones.
        """
        return landmark_detections(raw, keep)


def landmark_detections(raw: LandmarkOutput, keep: Postprocess) -> list[Detections]:
    """`Landmarker.postprocess` without a network: it also serves exported models."""
    seen = raw.presence.detach().sigmoid()
    points = torch.cat([raw.keypoints.detach(), seen[..., None]], -1).float().cpu()
    found = [Detections(around(p)[None], p[:, 2].mean()[None], torch.zeros(1).long(), p[None]) for p in points]
    return [one[one.scores > keep.score] for one in found]


def build_landmarker(config: LandmarkerConfig, metadata: ModelMetadata) -> Landmarker:
    """A landmarker with the parts that `config` names.

    Raises:
        UserError: an unknown name, a level that the backbone lacks, or annotations without keypoints.
    """
    if not metadata.keypoint_names:
        raise UserError(f"model {config.name} finds keypoints, and the annotations declare none in their categories")
    backbone, neck = build_pyramid(config)
    head = REGISTRIES["head.landmarks"][config.head](
        neck.channels, neck.strides, len(metadata.keypoint_names), config.hidden, config.head_convs
    )
    return Landmarker(config, metadata, backbone, neck, head)
