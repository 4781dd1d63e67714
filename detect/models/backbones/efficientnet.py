"""EfficientNets (Tan and Le, 2019): B0 to B7 torchvision's, and Lite0."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from detect.models.backbones.base import Parts
from detect.models.backbones.efficientnet_lite import efficientnet_lite0
from detect.models.backbones.feature_rows import features


class Scale(NamedTuple):
    """How many times as wide and deep as B0, and the side of the image in pixels."""

    width: float
    depth: float
    size: float


PUBLISHED = {  # as they were trained; torchvision builds the networks from the same widths and depths
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
    """The paper's compound scaling: width 1.1, depth 1.2 and resolution 1.15, each to the power of phi."""
    return Scale(1.1**phi, 1.2**phi, 224 * 1.15**phi)


VARIANTS: dict[str, Callable[[int, str], Parts]] = {
    **{name: partial(features, name, int(scale.size)) for name, scale in PUBLISHED.items()},
    "efficientnet_lite0": efficientnet_lite0,
}
