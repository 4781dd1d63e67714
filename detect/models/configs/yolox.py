"""Options of YOLOX (Ge et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Choice, Range, Width
from detect.models.configs.base import AssignerName, ModelConfig
from detect.models.configs.yolo import YoloLossConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@register("model", "yolox")
@dataclass(frozen=True)
class YoloxConfig(ModelConfig):
    """YOLOX: the graph of the paper's released models."""

    task: ClassVar[str] = "detect"

    kind: str = "yolox"
    backbone: Annotated[str, Choice("cspdarknet", "cspdarknet_light")] = "cspdarknet"
    """Backbone: the paper's, or the one of YOLOX-nano with depthwise convolutions (light)."""
    width: Width = 128
    """Channels at stride 8; the other stages have multiples of it."""
    depth: Annotated[int, Range(1, 100)] = 1
    """Bottlenecks of the shallowest stage, 1 to 100; the other stages have multiples of it."""
    assigner: AssignerName = "sim_ota"
    """Assigner. It decides which predictions are trained on which target; not max_iou, which needs anchor boxes."""
    loss: YoloLossConfig = field(default_factory=YoloLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.yolox import build_yolox

        return build_yolox(self, metadata)
