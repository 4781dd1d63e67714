"""EfficientNet B0 to B7 (Tan and Le, 2019), built by torchvision."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from detect.models.backbones.base import Parts
from detect.models.backbones.feature_rows import as_parts, features
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


_BLOCKS = (  # of B0 (Tan and Le, 2019, table 1): expansion, kernel, stride, input and output channels, layers
    *((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3)),
    *((6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)),
)


@register("backbone", "efficientnet_b0")
def efficientnet_b0(in_channels: int, padding: str, phi: float = 0.0) -> Parts:
    """Build B0, or with `phi` the network that compound scaling makes of it.

    Channels are rounded to multiples of 8, never down by more than a tenth, and layers up; dropout grows from 0.2 of B0
    to 0.5 of B7, as in the paper.
    """
    if phi == 0:
        return efficientnet("efficientnet_b0", in_channels, padding)
    if not -4 <= phi <= 8:
        raise ValueError(f"phi is {phi:g}: it must be from -4 to 8")
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig  # imported late: it takes half a second

    scale = compound(phi)
    blocks = [MBConvConfig(*block, width_mult=scale.width, depth_mult=scale.depth) for block in _BLOCKS]
    net = EfficientNet(blocks, dropout=min(max(0.2 + 0.3 * phi / 7, 0.0), 0.5))
    return as_parts(net, round(scale.size), in_channels)


for _name in list(PUBLISHED)[1:]:
    register("backbone", _name)(partial(efficientnet, _name))
