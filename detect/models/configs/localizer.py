"""Options of the localizer: at most one object in an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Registered, Share
from detect.models.configs.base import ClassLossConfig, Hidden, Levels, LossWeight, NeckName
from detect.models.configs.yolo import PyramidConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class LocalizerLossConfig(ClassLossConfig):
    """The loss of the localizer, a sum of weighted terms."""

    objectness: LossWeight = 1.0
    """Weight of the loss on whether there is an object, 0 or more."""
    box: LossWeight = 5.0
    """Weight of the box loss, 0 or more."""
    box_kind: Annotated[str, Registered("loss.box", "loss.coordinates")] = "giou"
    """Box loss: one minus an overlap, or a distance of the coordinates as shares of the image's side."""
    classes: LossWeight = 1.0
    """Weight of the classification loss, 0 or more."""
    smoothing: Share = 0.0
    """Label smoothing: share of the target that is spread evenly over all classes, 0 to 1."""


@register("model", "localizer")
@dataclass(frozen=True)
class LocalizerConfig(PyramidConfig):
    """Dense layers over the last feature map tell whether there is an object, its box and its class."""

    task: ClassVar[str] = "localize"
    suppresses: ClassVar[bool] = False

    kind: str = "localizer"
    neck: NeckName = "straight"
    levels: Levels = field(default_factory=lambda: [5])
    """Feature maps of the neck, as exponents of their strides: 5 is stride 32; the head reads the coarsest. 1 to 7."""
    hidden: Hidden = field(default_factory=lambda: [256])
    """Widths of the dense layers before the prediction."""
    loss: LocalizerLossConfig = field(default_factory=LocalizerLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.localizer import build_localizer

        return build_localizer(self, metadata)
