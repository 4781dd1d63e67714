"""Fast R-CNN (Girshick, 2015): one pass over a picture, and proposals from elsewhere cut out of its maps."""

from __future__ import annotations

from detect.config.train import ModelConfig
from detect.errors import unknown
from detect.models.base import ModelMetadata
from detect.models.heads.roi import SIDE, RoIHead
from detect.models.region_based import PooledModel
from detect.models.single_object import trunk_of


class FastRCNN(PooledModel):
    """images (B, 3, H, W) uint8 and the proposals of each -> Regions; without proposals the whole image is the one."""


def build_fast_rcnn(config: ModelConfig, metadata: ModelMetadata) -> FastRCNN:
    """A detector from the names in `config`. Raises UserError for an unknown name or level."""
    if config.head != "roi":
        raise unknown("head", config.head, ["roi"])
    backbone, neck = trunk_of(config)
    return FastRCNN(
        config, metadata, backbone, neck, RoIHead(config.width * SIDE**2, len(metadata.names), config.hidden)
    )
