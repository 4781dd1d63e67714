"""What the configuration of every model has; each kind of model adds its own options in a file beside this one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from detect.config.constraints import Length, Positive, Range, Registered, Width
from detect.config.fields import ADVANCED
from detect.errors import UserError
from detect.models.configs.backbone_names import BackboneNames

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata

BackboneName = Annotated[str, BackboneNames("backbone")]
NeckName = Annotated[str, Registered("neck")]
AssignerName = Annotated[str, Registered("assigner")]
ClassLossName = Annotated[str, Registered("loss.class")]
LossWeight = Annotated[float, Range(0)]
Anchors = list[Annotated[list[Positive], Length(2, 2)]]
Levels = Annotated[list[Annotated[int, Range(1, 7)]], Length(1, 7)]
Hidden = Annotated[list[Width], Length(0, 100)]


@dataclass(frozen=True)
class LossConfig:
    """The options of a loss; a model has a class with those that it reads."""


@dataclass(frozen=True)
class ClassLossConfig(LossConfig):
    """The options of a loss with a term for the classes."""

    class_weights: Annotated[list[Positive], ADVANCED] = field(default_factory=list)
    """Weight of each class in the classification loss, in the order of the classes. Default: all 1."""


@dataclass(frozen=True)
class ModelConfig:
    """The options of a model. A subclass for each kind has those that this kind reads, and no others.

    Attributes:
        task: name of the task that the model is trained for.
        needs_proposals: whether it looks at regions that selective search proposes.
        suppresses: whether its predictions go through non-maximum suppression.
    """

    task: ClassVar[str]
    needs_proposals: ClassVar[bool] = False
    suppresses: ClassVar[bool] = True

    name: str = ""
    """Name of the model, as messages and reports show it. Default: its kind."""
    kind: str = ""
    """Kind of model: it decides what other options there are."""
    in_channels: Annotated[Width, ADVANCED] = 3
    """Channels of the input: 3; 1 converts images to grey; signals and volumes have as many as the data."""
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.kind)

    @property
    def dims(self) -> int:
        """Dimensions of the input: 2 for images, 1 for signals, 3 for volumes."""
        return 2

    @property
    def backbone(self) -> str:
        """Registered name of the backbone; "" for a model that has none by name."""
        return ""

    def build(self, metadata: ModelMetadata) -> Model:
        """The network with fresh weights; `detect.models.builder.build` checks what all models require first.

        Args:
            metadata: classes, keypoints and image size to build it for.

        Raises:
            UserError: the options do not fit one another or the metadata.
        """
        raise NotImplementedError

    def anchors_missing(self) -> int:
        """How many anchor boxes the model needs that are not configured."""
        return 0

    def with_anchors(self, anchors: list[list[float]]) -> Self:
        """A copy with these anchor boxes, widths and heights in pixels at the training size."""
        options: dict[str, Any] = {"anchors": anchors}
        return replace(self, **options)

    @property
    def class_weights(self) -> list[float]:
        """Weight of each class in the loss; empty where all are 1, or the loss has no term for classes."""
        return getattr(self.loss, "class_weights", [])

    def with_class_weights(self, weights: list[float]) -> Self:
        """A copy with these weights of the classes in the loss.

        Raises:
            UserError: the loss has no term for classes.
        """
        if not isinstance(self.loss, ClassLossConfig):
            raise UserError(f"a model of kind {self.kind} has no loss over classes whose weights could be set")
        return replace(self, loss=replace(self.loss, class_weights=weights))

    def feature_options(self) -> dict[str, Any]:
        """Options, beside backbone and neck, that decide which features the frozen part makes of an image."""
        return {}

    def ignored_options(self) -> tuple[str, ...]:
        """Options of `detect train` that this model does not read, though others of its task may."""
        return () if self.needs_proposals else ("proposals",)

    def unread(self) -> dict[str, str]:
        """Options that have no effect because of another one's value, and the flag that would give them one."""
        return {}

    def validate(self) -> None:
        """Refuse options that were set and have no effect.

        Raises:
            UserError: one was set; it names the flag that would give it an effect.
        """
        default = type(self)(name=self.name)
        if self == default:  # quick: which head a name stands for needs torch
            return
        for option, flag in self.unread().items():
            if _value(self, option) != _value(default, option):
                raise UserError(
                    f"--model.{option.replace('_', '-')} is read with {flag} alone: leave it out, or give that"
                )


def _value(config: Any, option: str) -> Any:
    for name in option.split("."):
        config = getattr(config, name)
    return config
