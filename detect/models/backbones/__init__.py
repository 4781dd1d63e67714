"""Backbones by name. Each is a registered function (in_channels, padding) -> Parts; each family has its own file.

`padding` is "same" (the side of a feature map is ceil(side / stride)), "paper" (as in the published network) or "valid"
(no padding, so that the outputs of a sliding window equal those of the cropped windows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detect.errors import UserError, unknown
from detect.models.backbones import timm
from detect.models.backbones.base import Backbone, Network, Parts, cut
from detect.models.backbones.dimensions import in_dimensions
from detect.models.configs.backbone_names import split
from detect.registry import REGISTRIES, parameters
from detect.utils.operators import explain_torchvision_errors


@explain_torchvision_errors()
def parts(name: str, in_channels: int, padding: str, dims: int = 2) -> Parts:
    """Build the network called `name`, as its parts.

    Args:
        name: registered name, with or without options (see `variant`), or timm:NAME.
        in_channels: number of input channels.
        padding: "same", "paper" or "valid".
        dims: number of spatial dimensions of the input, 1 to 3.

    Raises:
        UserError: the name or an option is unknown, or the network needs padding or exists in two dimensions only.
    """
    if name.startswith(timm.PREFIX):
        if dims != 2:
            raise UserError(f"backbone {name} comes in two dimensions alone; take one of gridhead's, such as resnet18")
        made = timm.parts(name.removeprefix(timm.PREFIX), in_channels)
    else:
        made = variant(name, in_channels, padding)
    if padding == "valid" and not made.unpadded:
        raise UserError(f"backbone {name} cannot do without padding; take lenet5, alexnet, nin, vgg11 or resnet18")
    try:
        return in_dimensions(made, dims)
    except ValueError as error:
        raise UserError(f"backbone {name} comes in two dimensions alone ({error}); take another, resnet18") from error


def options(base: str) -> dict[str, Any]:
    """The options of the backbone registered as `base`, numbers each with its default; all have `stages` besides."""
    found = list(parameters(REGISTRIES["backbone"][base]).items())[2:]
    return {name: value for name, value in found if type(value) in (int, float)}


def variant(name: str, in_channels: int, padding: str) -> Parts:
    """Build the network called NAME or NAME:OPTION=VALUE,….

    The options are the parameters of the registered function after the first two, such as the `width` of MobileNet, and
    `stages`: the number of stages to keep. A network that is cut ends with global average pooling and a dense layer.

    Raises:
        UserError: the name or an option is unknown, or a value is not allowed.
    """
    base, given = split(name)
    entry, known = REGISTRIES["backbone"][base], options(base)
    values = dict[str, Any]()
    for option, text in given.items():
        if option not in known and option != "stages":
            raise unknown(f"option of backbone {base}", option, [*known, "stages"])
        try:
            values[option] = type(known.get(option, 0))(text)
        except ValueError as error:
            raise UserError(f"backbone {name}: {option} must be a number") from error
    if not given:
        return entry(in_channels, padding)
    count = values.pop("stages", None)
    try:
        made = entry(in_channels, padding, **values)
        return made if count is None else cut(made, count)
    except ValueError as error:
        raise UserError(f"backbone {name}: {error}") from error


@explain_torchvision_errors()
def build_backbone(name: str, in_channels: int = 3, levels: Sequence[int] = (3, 4, 5)) -> Backbone | timm.Pyramid:
    """Build the backbone called `name`.

    Args:
        name: registered name, with or without options (see `variant`), or timm:NAME.
        in_channels: number of input channels.
        levels: levels of the feature maps (stride 2 ** level), returned finest first. The neck computes levels that are
            coarser than the backbone's coarsest feature map (see `Backbone`).

    Raises:
        UserError: the name is unknown, or the network lacks one of the other levels.
    """
    try:
        if name.startswith(timm.PREFIX):
            return timm.Pyramid(name.removeprefix(timm.PREFIX), in_channels, levels)
        return Backbone(parts(name, in_channels, "same"), levels)
    except ValueError as error:
        raise UserError(f"backbone {name}: {error}; change --model.levels") from error


def build_network(name: str, classes: int, in_channels: int = 3, padding: str = "paper", dims: int = 2) -> Network:
    """Build the whole network called `name`, as a classifier. Raises UserError as `parts` does."""
    return Network(parts(name, in_channels, padding, dims), classes)
