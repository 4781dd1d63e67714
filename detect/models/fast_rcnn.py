"""Fast R-CNN (Girshick, 2015): one pass over an image, regions from elsewhere pooled from its feature maps."""

from __future__ import annotations

from detect.models.base import ModelMetadata
from detect.models.configs.rcnn import FastRcnnConfig
from detect.models.heads.roi import SIDE, RoIHead
from detect.models.necks import build_pyramid
from detect.models.region_based import PooledModel


class FastRCNN(PooledModel):
    """images (B, 3, H, W) uint8 and the proposals of each -> RegionOutput.

    Without proposals the whole image is the only region.
    """


def build_fast_rcnn(config: FastRcnnConfig, metadata: ModelMetadata) -> FastRCNN:
    """Fast R-CNN with the parts that `config` names.

    Raises:
        UserError: an unknown name, or a level that the backbone lacks.
    """
    backbone, neck = build_pyramid(config)
    return FastRCNN(
        config, metadata, backbone, neck, RoIHead(config.width * SIDE**2, len(metadata.names), config.hidden)
    )
