"""Options of the R-CNN family: regions of an image, classified one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Choice, Range, Width
from detect.config.fields import ADVANCED
from detect.models.configs.base import (
    Anchors,
    BackboneName,
    ClassLossConfig,
    Hidden,
    Levels,
    LossWeight,
    ModelConfig,
    NeckName,
)
from detect.models.configs.yolo import PyramidConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class RegionLossConfig(ClassLossConfig):
    """The loss of regions, a sum of weighted terms."""

    classes: LossWeight = 1.0
    """Weight of the classification loss of regions."""
    box: LossWeight = 1.0
    """Weight of the box loss of regions. Smooth L1 of the deltas."""


@dataclass(frozen=True)
class ProposalLossConfig(RegionLossConfig):
    """The loss of regions and of the region proposal network."""

    objectness: LossWeight = 1.0
    """Weight of the objectness loss of the proposals."""
    regression: LossWeight = 1.0
    """Weight of the box loss of the proposals."""


@register("model", "rcnn")
@dataclass(frozen=True)
class RcnnConfig(ModelConfig):
    """R-CNN (Girshick et al., 2014): each proposal is warped to one size and classified alone."""

    task: ClassVar[str] = "detect"
    needs_proposals: ClassVar[bool] = True

    kind: str = "rcnn"
    backbone: BackboneName = "csp_n"
    """Backbone. A registered name, with options such as resnet50:stages=3 (see detect info), or timm:NAME."""
    levels: Levels = field(default_factory=lambda: [5])
    """Feature map that the head reads, as the exponent of its stride: 5 is stride 32; of several, the coarsest."""
    window: Annotated[int, Range(1, 8192)] = 64
    """Side in pixels to which each region is warped, 1 to 8192."""
    hidden: Hidden = field(default_factory=list)
    """Widths of dense layers before the predictions. Default: none."""
    loss: RegionLossConfig = field(default_factory=RegionLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.rcnn import build_rcnn

        return build_rcnn(self, metadata)


@dataclass(frozen=True)
class PooledConfig(PyramidConfig):
    """The options of a model that cuts regions out of the feature maps of the whole image."""

    task: ClassVar[str] = "detect"

    neck: NeckName = "fpn"
    hidden: Hidden = field(default_factory=lambda: [256, 256])
    """Widths of the dense layers of a region."""
    pooling: Annotated[str, Choice("align", "max")] = "align"
    """Pooling of the features of a region. RoIAlign (align), or the largest cell (max), as published for Fast R-CNN."""
    cells: Annotated[str, Choice("middle", "corner"), ADVANCED] = "middle"
    """Place of a cell's value in the image, for anchors and RoIAlign: its middle, or its upper left corner (corner), as
    torchvision's weights have it."""
    loss: RegionLossConfig = field(default_factory=RegionLossConfig)


@register("model", "fast_rcnn")
@dataclass(frozen=True)
class FastRcnnConfig(PooledConfig):
    """Fast R-CNN (Girshick, 2015), on proposals of selective search."""

    needs_proposals: ClassVar[bool] = True

    kind: str = "fast_rcnn"

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.fast_rcnn import build_fast_rcnn

        return build_fast_rcnn(self, metadata)


@register("model", "faster_rcnn")
@dataclass(frozen=True)
class FasterRcnnConfig(PooledConfig):
    """Faster R-CNN (Ren et al., 2015), whose proposals are its own."""

    kind: str = "faster_rcnn"
    anchors: Anchors = field(default_factory=list)
    """Anchor boxes: [width, height] in pixels, by area. At the training size. Default: those that K-means finds in the
    training labels."""
    anchors_per_level: Annotated[int, Range(0, 1000)] = 3
    """Anchor boxes of each feature map. 0: the paper's."""
    regions: Annotated[int, Range(1, 10000), ADVANCED] = 300
    """Proposals of an image that are classified, the best of all feature maps."""
    loss: ProposalLossConfig = field(default_factory=ProposalLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.faster_rcnn import build_faster_rcnn

        return build_faster_rcnn(self, metadata)

    def anchors_missing(self) -> int:
        """One for each level and `anchors_per_level`, where none are configured."""
        return 0 if self.anchors else len(self.levels) * self.anchors_per_level


@dataclass(frozen=True)
class MaskLossConfig(ProposalLossConfig):
    """The loss of regions, of the region proposal network and of masks."""

    mask: LossWeight = 1.0
    """Weight of the mask loss of regions. Binary cross-entropy of the cells."""


@register("model", "mask_rcnn")
@dataclass(frozen=True)
class MaskRcnnConfig(FasterRcnnConfig):
    """Mask R-CNN (He et al., 2017): Faster R-CNN with a mask of each detected object."""

    task: ClassVar[str] = "segment"

    kind: str = "mask_rcnn"
    mask_width: Width = 64
    """Channels of the four convolutions of the mask head. The paper has 256."""
    loss: MaskLossConfig = field(default_factory=MaskLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.faster_rcnn import build_faster_rcnn
        from detect.models.mask_rcnn import MaskRCNN

        return build_faster_rcnn(self, metadata, MaskRCNN)
