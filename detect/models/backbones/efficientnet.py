"""EfficientNet B0 to B7 (Tan and Le, 2019), built by torchvision."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from detect.models.backbones.base import Parts
from detect.models.backbones.feature_rows import features
from detect.registry import register


class Scale(NamedTuple):
    """Width and depth as multiples of B0's, and the side of the image in pixels."""

    width: float
    depth: float
    size: float


PUBLISHED = {  # the published models; torchvision uses the same widths and depths
    "efficientnet_b0": Scale(1.0, 1.0, 224),
    "efficientnet_b1": Scale(1.0, 1.1, 240),
    "efficientnet_b2": Scale(1.1, 1.2, 260),
    "efficientnet_b3": Scale(1.2, 1.4, 300),
    "efficientnet_b4": Scale(1.4, 1.8, 380),
    "efficientnet_b5": Scale(1.6, 2.2, 456),
    "efficientnet_b6": Scale(1.8, 2.6, 528),
    "efficientnet_b7": Scale(2.0, 3.1, 600),
}


def compound(phi: float) -> Scale:
    """Return the paper's compound scaling: width 1.1, depth 1.2 and resolution 1.15, each to the power of phi."""
    return Scale(1.1**phi, 1.2**phi, 224 * 1.15**phi)


def efficientnet(name: str, in_channels: int, padding: str) -> Parts:
    """Build torchvision's network `name`, one of B0 to B7, with the image size of the paper."""
    return features(name, int(PUBLISHED[name].size), in_channels, padding)


for _name in PUBLISHED:
    register("backbone", _name)(partial(efficientnet, _name))
