"""Detectors that a Darknet cfg describes: its graph of layers, and our head over anchor boxes."""

from __future__ import annotations

from torch import nn

from detect.errors import UserError
from detect.models.backbones.darknet import Graph, Plan, plan
from detect.models.base import ModelMetadata
from detect.models.configs.darknet import DarknetConfig
from detect.models.heads.anchor import AnchorHead, GridHead
from detect.models.yolo import Yolo
from detect.registry import REGISTRIES


def build_darknet(config: DarknetConfig, metadata: ModelMetadata) -> Yolo:
    """The detector that the cfg in `config` describes, for the classes of `metadata`.

    Raises:
        UserError: there is no cfg, or something in it is not supported.
    """
    if not config.darknet_cfg:
        raise UserError("a model of kind darknet is made of a cfg: detect import --cfg F.cfg --weights F.weights")
    if config.in_channels != 3:
        raise UserError(f"--model.in-channels is {config.in_channels}: a Darknet model takes 3, images in colour")
    described = plan(config.darknet_cfg, "model.darknet_cfg")
    graph = Graph(described)
    head, assigner = _head(described, len(metadata.names)), REGISTRIES["assigner"][config.assigner]()
    return Yolo(config, metadata, graph, nn.Identity(), head, assigner)


def _head(described: Plan, classes: int) -> AnchorHead:
    """A 1x1 convolution for each [yolo] layer, in two: boxes and objectness, which any classes share, and classes."""
    scales = described.scales
    where = [s.channels for s in scales], [s.stride for s in scales]
    anchors = [size for s in scales for size in s.anchors]
    if scales[0].bounded:
        return AnchorHead(*where, classes, 0, anchors)
    reach = [s.reach for s in scales]
    return GridHead(*where, classes, 0, anchors, reach=reach if any(r != 1 for r in reach) else ())
