"""A detector as a Darknet cfg describes it: its graph of layers, and our own head over anchor boxes."""

from __future__ import annotations

from torch import nn

from anchors.assign import ASSIGNERS
from detect.config.train import ModelConfig
from detect.errors import UserError, unknown
from detect.models.backbones.darknet import Graph, Plan, plan
from detect.models.base import ModelMetadata
from detect.models.heads.anchor import AnchorHead, GridHead
from detect.models.yolo import Yolo


def build_darknet(config: ModelConfig, metadata: ModelMetadata) -> Yolo:
    """The detector of the cfg in `config.graph`, for the classes of `metadata`. Raises UserError for what is no cfg."""
    if not config.graph:
        raise UserError("a model of kind darknet is made of a cfg: detect import --cfg F.cfg --weights F.weights")
    if config.head != "grid":
        raise UserError(f"a Darknet model has the head of its cfg: leave --model.head {config.head} out")
    if config.assigner not in ASSIGNERS:
        raise unknown("assigner", config.assigner, ASSIGNERS)
    described = plan(config.graph, "model.graph")
    graph = Graph(described)
    return Yolo(
        config, metadata, graph, nn.Identity(), _head(described, len(metadata.names)), ASSIGNERS[config.assigner]()
    )


def _head(described: Plan, classes: int) -> AnchorHead:
    """One 1x1 convolution a [yolo] layer, in two parts: boxes and objectness, which any classes share, and classes."""
    scales = described.scales
    where = [s.channels for s in scales], [s.stride for s in scales]
    anchors = [size for s in scales for size in s.anchors]
    if scales[0].bounded:
        return AnchorHead(*where, classes, 0, anchors)
    reach = [s.reach for s in scales]
    return GridHead(*where, classes, 0, anchors, reach=reach if any(r != 1 for r in reach) else ())
