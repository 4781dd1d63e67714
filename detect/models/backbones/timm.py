"""Convolutional networks of the timm library (Wightman, 2019), as `timm:NAME`. timm must be installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from detect.errors import UserError, unknown
from detect.models.backbones.base import Parts, Staged, chosen

PREFIX = "timm:"


def create(name: str, **options: Any) -> Any:
    """Build timm's network `name` without pretrained weights.

    Args:
        name: name of the network in timm.
        options: arguments of `timm.create_model`.

    Raises:
        UserError: timm is not installed, has no such network, or cannot build it with these options.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbone {PREFIX}{name} needs timm: pip install 'gridhead[timm]'") from error
    if name not in timm.list_models():  # timm would look up a name with a scheme on a model hub
        raise unknown("network of timm", name, timm.list_models())
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"timm cannot make a pyramid of {name} ({error}); take a convolutional network") from error


class Pyramid(Staged):
    """Backbone from timm, as a single stage that computes the feature maps of the requested levels.

    Images are padded to a multiple of the coarsest stride and the feature maps cropped, so that their sides are
    ceil(side / stride) whatever the padding of timm's network.

    Args:
        name: name of the network in timm.
        in_channels: number of input channels.
        levels: levels of the feature maps (stride 2 ** level).

    Shape:
        images (B, in_channels, H, W) -> list of (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])).

    Raises:
        UserError: timm cannot build the network, or it is not convolutional.
        ValueError: the network lacks one of the levels.
    """

    def __init__(self, name: str, in_channels: int, levels: Sequence[int]):
        super().__init__()
        options = {"features_only": True, "in_chans": in_channels}
        with torch.device("meta"):
            strides = create(name, **options).feature_info.reduction()
        self.strides = chosen(strides, levels)
        taken = [strides.index(stride) for stride in self.strides]
        net = create(name, out_indices=taken, **options)
        if getattr(net, "output_fmt", "NCHW") != "NCHW":
            raise UserError(f"timm's {name} is no convolutional network; take one that is")
        self.channels = net.feature_info.channels()
        self.stages, self.names = nn.ModuleList([net]), {}

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[2:]
        right, below = -width % self.strides[-1], -height % self.strides[-1]
        x = pad(x, (0, right, 0, below)) if right or below else x
        maps = self.stages[0](x)
        return [m[..., : -(-height // s), : -(-width // s)] for m, s in zip(maps, self.strides, strict=True)]


def parts(name: str, in_channels: int) -> Parts:
    """Build timm's whole network: one stage that returns a vector, and a dense layer as the tail."""
    net = create(name, in_chans=in_channels, num_classes=0)
    size = net.pretrained_cfg["input_size"][-1]
    width = net.head_hidden_size if hasattr(net, "head_hidden_size") else net.num_features
    return Parts([net], [width], [size], lambda classes: nn.Sequential(nn.Linear(width, classes)), size, original=net)
