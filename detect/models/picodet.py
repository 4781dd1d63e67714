"""PicoDet (Yu et al., 2021): ESNet, CSP-PAN and a head for generalized focal loss, with the paper's SimOTA."""

from __future__ import annotations

from anchors.assign import MaxIoU
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.configs.picodet import PicoDetConfig
from detect.models.heads.pico import PicoHead
from detect.models.necks import build_pyramid
from detect.models.yolo import Yolo
from detect.registry import REGISTRIES


def build_picodet(config: PicoDetConfig, metadata: ModelMetadata) -> Yolo:
    """PicoDet with `config.width` channels in the neck and the head.

    Raises:
        UserError: the assigner needs anchor boxes, or the parts do not fit one another.
    """
    assigner = REGISTRIES["assigner"][config.assigner]()
    if isinstance(assigner, MaxIoU):
        raise UserError(f"assigner {config.assigner} compares anchor boxes, and PicoDet has none")
    backbone, neck = build_pyramid(config)
    head = PicoHead(neck.channels, neck.strides, len(metadata.names), config.head_convs)
    return Yolo(config, metadata, backbone, neck, head, assigner)
