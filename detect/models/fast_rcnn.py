"""Fast R-CNN (Girshick, 2015): one pass over a picture, and proposals from elsewhere cut out of its maps."""

from __future__ import annotations

from detect.models.base import ModelMetadata
from detect.models.configs.rcnn import FastRcnnConfig
from detect.models.heads.roi import SIDE, RoIHead
from detect.models.necks import build_pyramid
from detect.models.region_based import PooledModel


class FastRCNN(PooledModel):
    """images (B, 3, H, W) uint8 and the proposals of each -> Regions; without proposals the whole image is the one."""


def build_fast_rcnn(config: FastRcnnConfig, metadata: ModelMetadata) -> FastRCNN:
    """A detector from the names in `config`. Raises UserError for an unknown name or level."""
    backbone, neck = build_pyramid(config)
    return FastRCNN(
        config, metadata, backbone, neck, RoIHead(config.width * SIDE**2, len(metadata.names), config.hidden)
    )
