"""VGG (Simonyan and Zisserman, 2015) from torchvision: 3x3 convolutions and 2x2 max pools only."""

from __future__ import annotations

from functools import partial

from torch import nn

from detect.models.backbones.base import Parts, initialized, take_channels
from detect.models.backbones.conv_windows import padded, side_after
from detect.registry import register

_PLANS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}  # columns of the paper's table


def vgg(name: str, in_channels: int, padding: str) -> Parts:
    """Build a VGG network: stages of stride 1 to 32. All but the first begin with a max pool; the last is only one."""
    from torchvision.models.vgg import cfgs, make_layers  # imported late: it takes half a second

    net = nn.Module()
    base, _, norm = name.partition("_")
    layers = take_channels(make_layers(cfgs[_PLANS[base]], norm == "bn"), in_channels)
    net.features = padded(initialized(layers), padding)
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    stages = [nn.Sequential(*layers[a:b]) for a, b in zip([0, *pools], [*pools, len(layers)], strict=True)]
    # The dense layers read 7 x 7 cells as in the paper; fewer are left without padding, and none for vgg19.
    side = min(7, side_after(224, layers))

    def tail(classes: int) -> nn.Sequential:
        dense = [nn.Linear(512 * side * side, 4096), nn.ReLU(inplace=True), nn.Dropout()]
        dense += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, classes)]
        net.classifier = classifier = initialized(nn.Sequential(*dense))
        return nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Flatten(), *classifier)

    strides = [2**i for i in range(6)]
    return Parts(stages, [64, 128, 256, 512, 512, 512], strides, tail, original=net, unpadded=base != "vgg19")


for _name in (plan + norm for plan in _PLANS for norm in ("", "_bn")):
    register("backbone", _name)(partial(vgg, _name))
