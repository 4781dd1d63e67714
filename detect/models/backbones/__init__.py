"""Backbones by name: each is a registered function (in_channels, padding) -> Parts; a family of them is one file.

`padding` is "same" (the side of a feature map is ceil(side / stride)), "paper" (the published network) or "valid"
(none: outputs of a sliding window then equal those of its crops).
"""

from __future__ import annotations

from collections.abc import Sequence

from detect.errors import UserError
from detect.models.backbones import timm
from detect.models.backbones.base import Backbone, Network, Parts
from detect.models.backbones.dimensions import in_dimensions
from detect.registry import REGISTRIES
from detect.utils.operators import explain_torchvision_errors


@explain_torchvision_errors()
def parts(name: str, in_channels: int, padding: str, dims: int = 2) -> Parts:
    """The network called `name`, in parts.

    Args:
        name: a registered name, or timm:NAME.
        in_channels: channels of the input.
        padding: "same", "paper" or "valid".
        dims: dimensions of the input, 1 to 3.

    Raises:
        UserError: an unknown name, one that needs its padding, or one that exists in two dimensions alone.
    """
    if name.startswith(timm.PREFIX):
        if dims != 2:
            raise UserError(f"backbone {name} comes in two dimensions alone; take one of gridhead's, such as resnet18")
        made = timm.parts(name.removeprefix(timm.PREFIX), in_channels)
    else:
        made = REGISTRIES["backbone"][name](in_channels, padding)
    if padding == "valid" and not made.unpadded:
        raise UserError(f"backbone {name} cannot do without padding; take lenet5, alexnet, nin, vgg11 or resnet18")
    try:
        return in_dimensions(made, dims)
    except ValueError as error:
        raise UserError(f"backbone {name} comes in two dimensions alone ({error}); take another, resnet18") from error


@explain_torchvision_errors()
def build_backbone(name: str, in_channels: int = 3, levels: Sequence[int] = (3, 4, 5)) -> Backbone | timm.Pyramid:
    """The backbone called `name`, with the feature maps of `levels` (stride 2 ** level), finest first.

    Levels coarser than its coarsest feature map are left to the neck (see `Backbone`).

    Raises:
        UserError: an unknown name, or another level that the network lacks.
    """
    try:
        if name.startswith(timm.PREFIX):
            return timm.Pyramid(name.removeprefix(timm.PREFIX), in_channels, levels)
        return Backbone(parts(name, in_channels, "same"), levels)
    except ValueError as error:
        raise UserError(f"backbone {name}: {error}; change --model.levels") from error


def build_network(name: str, classes: int, in_channels: int = 3, padding: str = "paper", dims: int = 2) -> Network:
    """The whole network called `name`, as a classifier. Raises UserError as `parts` does."""
    return Network(parts(name, in_channels, padding, dims), classes)
