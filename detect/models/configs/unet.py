"""Options of U-Net: a class for each pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Length, Range, Width
from detect.models.configs.base import BackboneName, ClassLossConfig, LossWeight, ModelConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class PixelLossConfig(ClassLossConfig):
    """The loss of pixels, a sum of weighted terms."""

    classes: LossWeight = 1.0
    """Weight of the cross-entropy of the pixels, 0 or more."""
    dice: LossWeight = 1.0
    """Weight of the Dice loss, 0 or more. It counts small classes as much as large ones; 0: cross-entropy alone."""


@register("model", "unet")
@dataclass(frozen=True)
class UnetConfig(ModelConfig):
    """U-Net (Ronneberger et al., 2015): a contracting path, and an expanding one with skip connections."""

    task: ClassVar[str] = "semantic"
    suppresses: ClassVar[bool] = False

    kind: str = "unet"
    backbone: BackboneName = "csp_n"
    """Contracting path. A registered backbone, unet_encoder for the paper's, or timm:NAME."""
    levels: Annotated[list[Annotated[int, Range(0, 7)]], Length(1, 8)] = field(default_factory=lambda: [2, 3, 4, 5])
    """Feature maps of the skip connections, as exponents of strides. 2 is stride 4. 0 to 7; unet_encoder has 0 to 4."""
    width: Width = 32
    """Channels of the expanding path at the finest feature map. Each coarser one has twice as many."""
    loss: PixelLossConfig = field(default_factory=PixelLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.unet import build_unet

        return build_unet(self, metadata)
