"""Options of PicoDet (Yu et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Range, Registered, Width
from detect.models.configs.base import AssignerName, BackboneName, ClassLossName, Levels, LossWeight, NeckName
from detect.models.configs.yolo import DenseLossConfig, PyramidConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class PicoDetLossConfig(DenseLossConfig):
    """The loss of PicoDet: a sum of weighted terms, with the weights of the paper."""

    box: LossWeight = 2.0
    """Weight of the box loss, 0 or more."""
    box_kind: Annotated[str, Registered("loss.box")] = "giou"
    """Box loss. One minus this overlap of the predicted and the target box."""
    regression: LossWeight = 0.25
    """Weight of the distribution focal loss. On the raw regression outputs, 0 or more."""
    classes: LossWeight = 1.0
    """Weight of the classification loss, 0 or more."""
    class_kind: ClassLossName = "varifocal"
    """Classification loss. For each class of each prediction: varifocal, focal or binary cross-entropy."""


@register("model", "picodet")
@dataclass(frozen=True)
class PicoDetConfig(PyramidConfig):
    """PicoDet: a small detector for mobile devices, the graph of the paper's released models."""

    task: ClassVar[str] = "detect"

    kind: str = "picodet"
    backbone: BackboneName = "esnet_s"
    """Backbone. A registered name, with options such as resnet50:stages=3 (see detect info), or timm:NAME."""
    neck: NeckName = "csp_pan"
    """Neck. It joins the feature maps of the backbone."""
    levels: Levels = field(default_factory=lambda: [3, 4, 5, 6])
    """Feature maps of the head, as exponents of strides. 3 is stride 8. 1 to 7."""
    width: Width = 96
    """Channels of the neck and the head."""
    head_convs: Annotated[int, Range(0, 100)] = 2
    """5x5 depthwise separable convolutions of the head."""
    assigner: AssignerName = "sim_ota_varifocal"
    """Assigner. It decides which predictions are trained on which target; not max_iou, which needs anchor boxes."""
    loss: PicoDetLossConfig = field(default_factory=PicoDetLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.picodet import build_picodet

        return build_picodet(self, metadata)
