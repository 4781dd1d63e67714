"""Models by kind, and how one is built from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anchors.assign import ASSIGNERS, MaxIoU
from detect.config.train import ModelConfig
from detect.errors import UserError, unknown
from detect.models.backbones import build_backbone
from detect.models.base import Model, ModelMetadata
from detect.models.classifier import build_classifier
from detect.models.darknet import build_darknet
from detect.models.embedder import build_embedder
from detect.models.fast_rcnn import build_fast_rcnn
from detect.models.faster_rcnn import build_faster_rcnn
from detect.models.heads import HEADS
from detect.models.landmarker import build_landmarker
from detect.models.localizer import build_locator
from detect.models.losses.boxes import OVERLAPS
from detect.models.necks import build_neck
from detect.models.rcnn import build_rcnn
from detect.models.sliding_window import build_sliding_window
from detect.models.yolo import Yolo
from detect.models.yolox import build_yolox
from detect.utils.operators import require_operators


def _pick(kind: str, name: str, registry: Mapping[str, Any]) -> Any:
    if name not in registry:
        raise unknown(kind, name, registry)
    return registry[name]


def build_yolo(config: ModelConfig, metadata: ModelMetadata) -> Yolo:
    """A grid detector from the names in `config`. Raises UserError for an unknown name or a wrong number of anchors."""
    backbone = build_backbone(config.backbone, config.in_channels, config.levels)
    wanted = sorted(2**level for level in config.levels)
    neck = build_neck(config.neck, backbone.channels, backbone.strides, wanted, config.width, config.depth)
    head = _pick("head", config.head, HEADS)
    if config.loss.box_kind not in OVERLAPS:
        raise UserError(f"--model.loss.box-kind {config.loss.box_kind} is for localizers: take {', '.join(OVERLAPS)}")
    levels, each = len(config.levels), config.anchors_per_level
    if head.uses_anchors and len(config.anchors) != levels * each:
        raise UserError(
            f"model {config.name} has {levels} levels of {each} anchors, but {len(config.anchors)} are listed; "
            f"compute them with detect anchors --k {levels * each}, or leave them out"
        )
    given: dict[str, Any] = {}
    if head.uses_keypoints:
        if not metadata.keypoint_names:
            raise UserError(f"model {config.name} finds keypoints, and the data has none: take another, such as yolo_n")
        given["keypoints"] = metadata.keypoint_names
    built = head(neck.channels, neck.strides, len(metadata.names), config.tower, config.anchors, **given)
    assigner = _pick("assigner", config.assigner, ASSIGNERS)()
    if isinstance(assigner, MaxIoU) and not head.uses_anchors:
        raise UserError(f"assigner {config.assigner} compares anchor boxes, and head {config.head} has none")
    return Yolo(config, metadata, backbone, neck, built, assigner)


def anchors_missing(config: ModelConfig) -> int:
    """How many anchors the head of `config` wants and `config` does not list."""
    wanted = config.kind == "faster_rcnn" or (config.kind == "yolo" and _pick("head", config.head, HEADS).uses_anchors)
    if config.anchors or not wanted:
        return 0
    return len(config.levels) * config.anchors_per_level


MODELS: dict[str, Callable[[ModelConfig, ModelMetadata], Model]] = {
    "yolo": build_yolo,
    "yolo_points": build_yolo,
    "darknet": build_darknet,
    "yolox": build_yolox,
    "sliding_window": build_sliding_window,
    "faster_rcnn": build_faster_rcnn,
    "fast_rcnn": build_fast_rcnn,
    "rcnn": build_rcnn,
    "localizer": build_locator,
    "landmarker": build_landmarker,
    "classifier": build_classifier,
    "embedder": build_embedder,
}
_WITHOUT_BOXES = ("localizer", "landmarker", "classifier", "embedder")  # kinds that suppress nothing


def build(config: ModelConfig, metadata: ModelMetadata) -> Model:
    """The model that `config` describes, with fresh weights.

    Raises UserError for an unknown name, for pictures (`dims` 2) of other than 1 or 3 channels, and where torchvision
    does not load.
    """
    if config.dims != 2 and config.kind != "classifier":
        raise UserError(f"--model.dims {config.dims} is for classifiers: model {config.name} looks at pictures alone")
    if config.dims == 2 and config.in_channels not in (1, 3):
        raise UserError(f"--model.in-channels is {config.in_channels}: pictures have 3, or 1 where they become grey")
    weights, classes = config.loss.class_weights, len(metadata.names)
    if weights and len(weights) != classes:
        raise UserError(f"--model.loss.class-weights has {len(weights)} weights for {classes} classes")
    make = _pick("model kind", config.kind, MODELS)
    if config.kind not in _WITHOUT_BOXES:
        require_operators()  # now: the first evaluation would find out after an epoch
    return make(config, metadata)
