"""Options of embedders: a vector for each image, near for images of one identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from detect.config.constraints import Choice, Range, Width
from detect.models.configs.base import BackboneName, Hidden, LossConfig, LossWeight, ModelConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class EmbedderLossConfig(LossConfig):
    """The loss over pairs or triplets of a batch."""

    kind: Annotated[str, Choice("triplet", "contrastive", "siamese")] = "triplet"
    """Loss: over triplets, over pairs (contrastive), or of a logistic unit on pairs (siamese)."""
    mining: Annotated[str, Choice("random", "semi_hard", "batch_hard")] = "semi_hard"
    """Which triplets of a batch are used; read by the triplet loss."""
    margin: LossWeight = 0.2
    """Margin on squared distances (triplet), or on distances (contrastive), 0 or more."""


@register("model", "embedder")
@dataclass(frozen=True)
class EmbedderConfig(ModelConfig):
    """A backbone whose last layer gives a vector of length one."""

    task: ClassVar[str] = "embed"
    suppresses: ClassVar[bool] = False

    kind: str = "embedder"
    backbone: BackboneName = "csp_n"
    """Backbone. A registered name, with options such as resnet50:stages=3 (see detect info), or timm:NAME."""
    hidden: Hidden = field(default_factory=list)
    """Widths of dense layers before the vector. Default: none."""
    dimensions: Width = 128
    """Length of the vector."""
    output_stride: Annotated[int, Range(0, 8192)] = 0
    """Take half of the vector from the last stage of this stride, in a grid of 4 x 4 cells. 0: all of it from the last
    map."""
    mirror: bool = False
    """Average the vectors of an image and its mirror image when predicting."""
    loss: EmbedderLossConfig = field(default_factory=EmbedderLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.embedder import build_embedder

        return build_embedder(self, metadata)

    def feature_options(self) -> dict[str, Any]:
        """See `ModelConfig.feature_options`."""
        return {"output_stride": self.output_stride, "mirror": self.mirror}

    def unread(self) -> dict[str, str]:
        """Mining chooses triplets, and the Siamese unit has no margin."""
        mining, margin = "--model.loss.kind triplet", "--model.loss.kind triplet or contrastive"
        kinds = {"triplet": {}, "contrastive": {"loss.mining": mining}}
        return kinds.get(self.loss.kind, {"loss.mining": mining, "loss.margin": margin})
