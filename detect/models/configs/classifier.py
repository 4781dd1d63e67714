"""Options of classifiers of images, signals and volumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from detect.config.constraints import Choice, Range, Share
from detect.models.configs.base import BackboneName, ClassLossConfig, Hidden, ModelConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class ClassifierLossConfig(ClassLossConfig):
    """The cross-entropy of the classes."""

    smoothing: Share = 0.0
    """Label smoothing: share of the target that is spread evenly over all classes, 0 to 1."""


_WARPS = ("scale", "rotate", "shear", "perspective", "warp", "hue", "saturation", "albumentations", "stylized", "crop")
_FOR_IMAGES = ("multi_scale", "pixels", "pretrained", "cache_features", *(f"augment.{name}" for name in _WARPS))


def ignored_for(dims: int) -> tuple[str, ...]:
    """The options that a classifier of inputs of so many dimensions has no use for."""
    return () if dims == 2 else _FOR_IMAGES


@register("model", "classifier")
@dataclass(frozen=True)
class ClassifierConfig(ModelConfig):
    """A backbone as it was published, with as many outputs as there are classes."""

    task: ClassVar[str] = "classify"
    suppresses: ClassVar[bool] = False

    kind: str = "classifier"
    backbone: BackboneName = "resnet18"
    """Backbone. A registered name, with options such as resnet50:stages=3 (see detect info), or timm:NAME."""
    dims: Annotated[int, Range(1, 3)] = 2
    """Dimensions of the input: 2 for images, 1 for signals, 3 for volumes."""
    padding: Annotated[str, Choice("auto", "same", "paper")] = "auto"
    """Padding of the convolutions: the published one (paper), or one for any image size (same). auto: paper for images
    at least as large as the published size, else same."""
    hidden: Hidden = field(default_factory=list)
    """Widths of new dense layers in place of the last layer. Default: the published last layer."""
    loss: ClassifierLossConfig = field(default_factory=ClassifierLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.classifier import build_classifier

        return build_classifier(self, metadata)

    def ignored_options(self) -> tuple[str, ...]:
        """Those that signals and volumes have no use for, where the input is such."""
        return (*super().ignored_options(), *ignored_for(self.dims))

    def feature_options(self) -> dict[str, Any]:
        """See `ModelConfig.feature_options`."""
        return {"padding": self.padding}
