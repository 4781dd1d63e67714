"""Options of a network that is a list of layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from detect.config.constraints import Length, Range
from detect.models.configs.base import ModelConfig
from detect.models.configs.classifier import ClassifierLossConfig, ignored_for
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata

SMALL = ["conv 16 3 norm=true", "max 2", "conv 32 3 norm=true", "max 2", "conv 64 3 norm=true", "mean all"]


@register("model", "layers")
@dataclass(frozen=True)
class LayersConfig(ModelConfig):
    """A classifier that is a list of layers; a dense layer with as many outputs as there are classes ends it."""

    task: ClassVar[str] = "classify"
    suppresses: ClassVar[bool] = False

    kind: str = "layers"
    layers: Annotated[list[Annotated[str, Length(1, 200)]], Length(1, 200)] = field(default_factory=lambda: list(SMALL))
    """Layers from the image on: a name, sizes, and options, such as 'conv 16 3 stride=2 padding=valid', 'max 2' or
    'dense 64'."""
    dims: Annotated[int, Range(1, 3)] = 2
    """Dimensions of the input: 2 for images, 1 for signals, 3 for volumes."""
    loss: ClassifierLossConfig = field(default_factory=ClassifierLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.classifier import Classifier
        from detect.models.layers import layered_network

        network = layered_network(self.layers, len(metadata.names), self.in_channels, metadata.size, self.dims)
        return Classifier(self, metadata, network)

    def ignored_options(self) -> tuple[str, ...]:
        """Those of published networks, and where the input is no image those of images."""
        return (*super().ignored_options(), "pretrained", *ignored_for(self.dims))

    def feature_options(self) -> dict[str, Any]:
        """See `ModelConfig.feature_options`: the layers decide the padding, and all else."""
        return {"padding": "; ".join(self.layers)}
