"""Options of the grid detectors: a backbone, a neck, a dense head, and an assigner of targets to predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Range, Registered, Width
from detect.models.configs.base import (
    Anchors,
    AssignerName,
    BackboneName,
    ClassLossConfig,
    ClassLossName,
    Levels,
    LossWeight,
    ModelConfig,
    NeckName,
)
from detect.registry import REGISTRIES, register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class DenseLossConfig(ClassLossConfig):
    """The loss of a dense detector, a sum of weighted terms. `box_losses` is the registry of `box_kind`."""

    box_losses: ClassVar[str] = "loss.box"

    box: LossWeight = 7.5
    """Weight of the box loss, 0 or more."""
    box_kind: Annotated[str, Registered("loss.box")] = "ciou"
    """Box loss. One minus this overlap of the predicted and the target box."""
    regression: LossWeight = 1.5
    """Weight of the loss on the raw regression outputs. Boxes are decoded from these, 0 or more."""
    classes: LossWeight = 0.5
    """Weight of the classification loss, 0 or more."""
    class_kind: ClassLossName = "bce"
    """Classification loss. For each class of each prediction: binary cross-entropy or focal loss."""


@dataclass(frozen=True)
class YoloLossConfig(DenseLossConfig):
    """The loss of a dense detector whose head may predict objectness."""

    objectness: LossWeight = 1.0
    """Weight of the objectness loss. 0 or more; read by heads that predict objectness."""


@dataclass(frozen=True)
class KeypointLossConfig(DenseLossConfig):
    """The loss of a dense detector that predicts keypoints beside boxes."""

    keypoints: LossWeight = 1.0
    """Weight of the two keypoint losses, position and visibility, 0 or more."""


@dataclass(frozen=True)
class MaskLossConfig(DenseLossConfig):
    """The loss of a dense detector that predicts masks beside boxes."""

    masks: LossWeight = 5.0
    """Weight of the mask loss, cross-entropy plus Dice, 0 or more."""


@dataclass(frozen=True)
class OrientedLossConfig(DenseLossConfig):
    """The loss of a dense detector of oriented boxes."""

    box_losses: ClassVar[str] = "loss.oriented"

    box_kind: Annotated[str, Registered("loss.oriented")] = "prob_iou"
    """Box loss. One minus this overlap of the predicted and the target box."""


@dataclass(frozen=True)
class PyramidConfig(ModelConfig):
    """The options of a model with a backbone, a neck and feature maps of several strides."""

    backbone: BackboneName = "csp_n"
    """Backbone. A registered name, with options such as resnet50:stages=3 (see detect info), or timm:NAME."""
    neck: NeckName = "pan"
    """Neck. It joins the feature maps of the backbone."""
    levels: Levels = field(default_factory=lambda: [3, 4, 5])
    """Feature maps, as exponents of strides. 3 is stride 8. 1 to 7."""
    width: Width = 64
    """Channels of the neck and the head."""
    depth: Annotated[int, Range(1, 100)] = 1
    """Residual blocks in each stage of the neck."""


@register("model", "yolo")
@dataclass(frozen=True)
class YoloConfig(PyramidConfig):
    """A grid detector, with or without anchor boxes."""

    task: ClassVar[str] = "detect"

    kind: str = "yolo"
    head: Annotated[str, Registered("head")] = "point"
    """Head. Without anchor boxes (point), with bounded offsets to them (anchor), or the classic grid (grid)."""
    head_convs: Annotated[int, Range(0, 100)] = 1
    """3x3 convolutions in each branch of the head."""
    assigner: AssignerName = "task_aligned"
    """Assigner. It decides which predictions are trained on which target."""
    anchors: Anchors = field(default_factory=list)
    """Anchor boxes: [width, height] in pixels, by area. At the training size. Default: those that K-means finds in the
    training labels."""
    anchors_per_level: Annotated[int, Range(0, 1000)] = 3
    """Anchor boxes of each feature map. 0: one of the size of a cell."""
    loss: YoloLossConfig = field(default_factory=YoloLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.yolo import build_yolo

        return build_yolo(self, metadata)

    def anchors_missing(self) -> int:
        """One for each level and `anchors_per_level`, where the head uses anchor boxes and none are configured."""
        if self.anchors or not REGISTRIES["head"][self.head].uses_anchors:
            return 0
        return len(self.levels) * self.anchors_per_level

    def unread(self) -> dict[str, str]:
        """Anchor boxes and objectness are for heads with anchor boxes."""
        if REGISTRIES["head"][self.head].uses_anchors:
            return {}
        return dict.fromkeys(("anchors", "anchors_per_level", "loss.objectness"), "--model.head anchor or grid")


@dataclass(frozen=True)
class AnchorFreeConfig(PyramidConfig):
    """The options of a grid detector without anchor boxes that predicts more of each object than its box."""

    head_convs: Annotated[int, Range(0, 100)] = 1
    """3x3 convolutions in each branch of the head."""
    assigner: AssignerName = "task_aligned"
    """Assigner. It decides which predictions are trained on which target."""


@register("model", "yolo_points")
@dataclass(frozen=True)
class YoloKeypointsConfig(AnchorFreeConfig):
    """A grid detector without anchor boxes that also predicts the keypoints of each object."""

    task: ClassVar[str] = "keypoints"

    kind: str = "yolo_points"
    loss: KeypointLossConfig = field(default_factory=KeypointLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.yolo import build_yolo_keypoints

        return build_yolo_keypoints(self, metadata)


@register("model", "yolo_seg")
@dataclass(frozen=True)
class YoloMasksConfig(AnchorFreeConfig):
    """A grid detector without anchor boxes that also predicts the mask of each object."""

    task: ClassVar[str] = "segment"

    kind: str = "yolo_seg"
    loss: MaskLossConfig = field(default_factory=MaskLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.heads.masks import MaskHead
        from detect.models.yolo import build_anchor_free

        return build_anchor_free(self, metadata, MaskHead)


@register("model", "yolo_obb")
@dataclass(frozen=True)
class YoloOrientedConfig(PyramidConfig):
    """A grid detector without anchor boxes whose boxes are oriented."""

    task: ClassVar[str] = "obb"

    kind: str = "yolo_obb"
    head_convs: Annotated[int, Range(0, 100)] = 1
    """3x3 convolutions in each branch of the head."""
    loss: OrientedLossConfig = field(default_factory=OrientedLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.yolo import build_yolo_oriented

        return build_yolo_oriented(self, metadata)
