"""Any convolutional network of the library timm (Wightman, 2019), where it is installed, as `timm:NAME`."""

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
    """timm's network of that name, without weights. Raises UserError where timm is absent or has no such network."""
    try:
        import timm
    except ImportError as error:
        raise UserError(f"backbone {PREFIX}{name} needs timm: pip install 'gridhead[timm]'") from error
    if name not in timm.list_models():  # a name with a scheme would be looked for on a hub
        raise unknown("network of timm", name, timm.list_models())
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"timm cannot make a pyramid of {name} ({error}); take a convolutional network") from error


class Pyramid(Staged):
    """One stage: all that the wanted maps need. Maps have sides ceil(side / stride) whatever padding timm's have."""

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
    """The whole network: one stage that ends in a vector, and a dense layer."""
    net = create(name, in_chans=in_channels, num_classes=0)
    size = net.pretrained_cfg["input_size"][-1]
    width = net.head_hidden_size if hasattr(net, "head_hidden_size") else net.num_features
    return Parts([net], [width], [size], lambda classes: nn.Sequential(nn.Linear(width, classes)), size, original=net)
