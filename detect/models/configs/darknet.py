"""Options of detectors imported from Darknet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Length
from detect.models.configs.base import AssignerName, ModelConfig
from detect.models.configs.yolo import YoloLossConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@register("model", "darknet")
@dataclass(frozen=True)
class DarknetConfig(ModelConfig):
    """A detector as a Darknet cfg describes it: `detect import --cfg F.cfg --weights F.weights` makes one."""

    task: ClassVar[str] = "detect"

    kind: str = "darknet"
    darknet_cfg: Annotated[str, Length(0, 10**6)] = ""
    """Text of the Darknet cfg that describes the network."""
    assigner: AssignerName = "sim_ota"
    """Assigner. It decides which predictions are trained on which target."""
    loss: YoloLossConfig = field(default_factory=YoloLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.darknet import build_darknet

        return build_darknet(self, metadata)
