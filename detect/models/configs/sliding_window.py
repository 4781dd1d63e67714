"""Options of the sliding-window detector (Sermanet et al., 2014)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from detect.config.constraints import Choice, Range
from detect.models.configs.base import BackboneName, ClassLossConfig, Hidden, LossWeight, ModelConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class WindowLossConfig(ClassLossConfig):
    """The loss of windows, a sum of weighted terms."""

    classes: LossWeight = 1.0
    """Weight of the classification loss, 0 or more."""
    box: LossWeight = 1.0
    """Weight of the box loss, smooth L1 of the edges of the box, 0 or more."""


@register("model", "sliding_window")
@dataclass(frozen=True)
class SlidingWindowConfig(ModelConfig):
    """A classifier of windows, run at every position and scale of an image."""

    task: ClassVar[str] = "detect"

    kind: str = "sliding_window"
    backbone: BackboneName = "lenet5"
    """Network that classifies a window: a registered name, or timm:NAME."""
    window: Annotated[int, Range(1, 8192)] = 32
    """Side of the window in pixels, 1 to 8192."""
    output_stride: Annotated[int, Range(0, 8192)] = 0
    """Pixels between windows: the network ends at its last stage of that stride. 0: the stride of the whole network."""
    hidden: Hidden = field(default_factory=list)
    """Widths of the dense layers after that stage; needs `output_stride`. Default: one of 128."""
    padding: Annotated[str, Choice("auto", "same", "paper", "valid")] = "auto"
    """Padding of the convolutions: none (valid), the published one (paper) or same. auto: valid."""
    crop_scale: Annotated[float, Range(1, 4)] = 1.5
    """Side of the crops to train on, as a multiple of the window, 1 to 4."""
    scale_step: Annotated[float, Range(1.05, 4)] = 1.26
    """Factor by which each level of the image pyramid is smaller than the one before, 1.05 to 4."""
    regress: bool = True
    """Predict how the box differs from its window. false: a box is its window."""
    loss: WindowLossConfig = field(default_factory=WindowLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.sliding_window import build_sliding_window

        return build_sliding_window(self, metadata)

    def feature_options(self) -> dict[str, Any]:
        """See `ModelConfig.feature_options`."""
        return {"padding": self.padding, "output_stride": self.output_stride}

    def ignored_options(self) -> tuple[str, ...]:
        """Those that images are augmented by as a whole: it trains on crops."""
        whole = ("mosaic", "mosaic_off", "mixup", "visibility", "stylized", "crop")
        return (*super().ignored_options(), "repeat", *(f"augment.{name}" for name in whole))

    def unread(self) -> dict[str, str]:
        """Dense layers are new only where the network ends early, and a box has a loss only where it is predicted."""
        early = {} if self.output_stride else {"hidden": "--model.output-stride"}
        return early | ({} if self.regress else {"loss.box": "--model.regress"})
