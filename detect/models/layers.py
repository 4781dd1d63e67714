"""Networks that are lists of layers, each written as a name, sizes and options: "conv 16 3 stride=2", "max 2".

A layer is a function (inputs, …) -> (module, channels of its output), registered as "layer"; its parameters are what
may follow the name. Those of `dense` and `dropout` come after the last feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from inspect import Parameter
from typing import Any, get_type_hints

from torch import nn

from detect.errors import UserError, unknown
from detect.models.backbones.base import Network, Parts, cells, initialized
from detect.models.backbones.dimensions import in_dimensions
from detect.models.backbones.efficientnet_lite import Same
from detect.registry import REGISTRIES, parameters, register

Made = tuple[nn.Module, int]
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "none": nn.Identity}
MOST = 65536  # channels, units and pixels of a layer
_SWITCH = {"true": True, "false": False}
_WHOLE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def layered_network(layers: Sequence[str], classes: int, in_channels: int, size: int, dims: int = 2) -> Network:
    """Build a network of layers, and a dense one with an output for each class at the end.

    Args:
        layers: descriptions, from the image on.
        classes: number of classes.
        in_channels: channels of the image.
        size: side of the image in pixels, which decides how many numbers a dense layer reads.
        dims: dimensions of the input.

    Raises:
        UserError: a layer is unknown, or does not fit what comes before it.
    """
    stages, channels, strides = list[nn.Module](), list[int](), list[int]()
    width, stride, rest = in_channels, 1, list(enumerate(layers, 1))
    while rest:
        module, outputs = _made(*rest[0], width)
        if rest[0][1].lower().startswith("dense") or isinstance(module, _WHOLE):
            break
        rest.pop(0)
        width, stride = outputs, stride * _stride(module)
        stages.append(module)
        channels.append(width)
        strides.append(stride)
    if not stages:
        raise UserError("a network of layers begins with a convolution or a pool: --model.layers 'conv 16 3' 'max 2'")
    side = cells(nn.Sequential(*stages), size, in_channels)
    if not side:
        raise UserError(f"nothing is left of an image of {size} px after {len(stages)} layers: take a larger --imgsz")

    def tail(classes: int) -> nn.Sequential:
        vectors, units = _vectors(rest, width, side)
        return initialized(nn.Sequential(*vectors, nn.Linear(units, classes)))

    made = Parts(list(initialized(nn.Sequential(*stages))), channels, strides, tail, size)
    return Network(in_dimensions(made, dims), classes)


def _vectors(layers: Sequence[tuple[int, str]], width: int, side: int) -> tuple[list[nn.Module], int]:
    """The layers after the last feature map (width, side, side), and how many numbers they give."""
    modules = list[nn.Module]()
    for number, text in layers:
        module, units = _made(number, text, width)
        if modules and any(isinstance(one, (*_WINDOWS, *_WHOLE)) for one in module.modules()):
            raise UserError(f"layer {number} ({text}): no feature map is left there; move it up")
        if isinstance(module, _WHOLE):
            modules += [module, nn.Flatten()]
            continue
        if not modules:  # the pool does nothing to images of the size that the network is built for
            modules += [nn.AdaptiveAvgPool2d(side), nn.Flatten()]
            module, units = _made(number, text, width * side**2)
        modules.append(module)
        width = units
    return (modules, width) if modules else ([nn.AdaptiveAvgPool2d(side), nn.Flatten()], width * side**2)


def _stride(module: nn.Module) -> int:
    steps = (one.stride for one in module.modules() if isinstance(one, _WINDOWS))
    return math.prod(step if isinstance(step, int) else step[0] for step in steps)


def _made(number: int, text: str, inputs: int) -> Made:
    """The layer that `text` describes. Raises UserError as `layered_network` does."""
    where = f"layer {number} ({text})"
    name, *words = text.split()
    if name.lower() not in REGISTRIES["layer"]:
        raise unknown(f"layer, number {number},", name, REGISTRIES["layer"])
    entry = REGISTRIES["layer"][name]
    hints = {key: hint for key, hint in get_type_hints(entry).items() if key not in ("inputs", "return")}
    free, given = list(hints), dict[str, Any]()
    for word in words:
        key, equals, value = word.partition("=")
        key, value = (key, value) if equals else (free[0] if free else "", word)
        if key not in hints or key in given:
            raise UserError(f"{where}: what is {word}? {name} takes {', '.join(hints)}")
        given[key] = _value(f"{where}: {key}", value, hints[key])
        free.remove(key)
    if missing := [key for key in free if parameters(entry)[key] is Parameter.empty]:
        raise UserError(f"{where}: {name} needs {' and '.join(missing)}")
    try:
        made: Made = entry(inputs, **given)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if max(inputs, made[1]) > MOST:
        raise UserError(f"{where}: {inputs} inputs, {made[1]} outputs; at most {MOST} are possible")
    return made


def _value(where: str, text: str, hint: Any) -> Any:
    """A word as a value of a type."""
    if hint is bool:
        if text.lower() not in _SWITCH:
            raise UserError(f"{where} is {text}: it must be true or false")
        return _SWITCH[text.lower()]
    if hint is str or (text == "all" and hint is not int):
        return text
    try:
        value = float(text) if hint is float else int(text)
    except ValueError as error:
        raise UserError(f"{where} is {text}: it must be a number") from error
    if hint is not float and not 1 <= value <= MOST:
        raise UserError(f"{where} is {text}: it must be from 1 to {MOST}")
    return value


@register("layer", "conv")
def conv(
    inputs: int,
    filters: int,
    size: int = 3,
    stride: int = 1,
    padding: str = "same",
    activation: str = "relu",
    norm: bool = False,
    groups: int = 1,
) -> Made:
    """A convolution with `filters` filters of `size` x `size`, batch normalization if `norm`, and an activation."""
    if padding not in ("same", "valid"):
        raise unknown("padding", padding, ("same", "valid"))
    if inputs % groups or filters % groups:
        raise ValueError(f"{inputs} channels to {filters} filters do not divide into {groups} groups")
    same = padding == "same"
    kind, around = (Same, 0) if same and size % 2 == 0 else (nn.Conv2d, size // 2 if same else 0)
    layers: list[nn.Module] = [kind(inputs, filters, size, stride, around, groups=groups, bias=not norm)]
    layers += [nn.BatchNorm2d(filters)] if norm else []
    return nn.Sequential(*layers, _activation(activation)), filters


@register("layer", "separable")
def separable(inputs: int, filters: int, size: int = 3, stride: int = 1, norm: bool = True) -> Made:
    """A depthwise convolution of `size` x `size`, and a 1x1 convolution to `filters` channels."""
    depthwise, _ = conv(inputs, inputs, size, stride, norm=norm, groups=inputs)
    pointwise, _ = conv(inputs, filters, 1, norm=norm)
    return nn.Sequential(depthwise, pointwise), filters


class Shortcut(nn.Module):
    """g(x + F(x)): two convolutions, and the input added before the last activation."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.first, _ = conv(channels, channels, size, norm=True)
        self.second, _ = conv(channels, channels, size, norm=True, activation="none")
        self.act = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(x + self.second(self.first(x)))


@register("layer", "residual")
def residual(inputs: int, size: int = 3) -> Made:
    """Two convolutions of `size` x `size` with an identity shortcut (He et al., 2016)."""
    return Shortcut(inputs, size), inputs


@register("layer", "max")
def max_pool(inputs: int, size: int | str = 2, stride: int = 0) -> Made:
    """The maximum of each `size` x `size` pixels, or of "all"; the stride is the size unless given."""
    return nn.AdaptiveMaxPool2d(1) if size == "all" else nn.MaxPool2d(int(size), stride or int(size)), inputs


@register("layer", "mean")
def mean_pool(inputs: int, size: int | str = 2, stride: int = 0) -> Made:
    """The mean of each `size` x `size` pixels, or of "all"; the stride is the size unless given."""
    return nn.AdaptiveAvgPool2d(1) if size == "all" else nn.AvgPool2d(int(size), stride or int(size)), inputs


@register("layer", "dense")
def dense(inputs: int, units: int, activation: str = "relu") -> Made:
    """A fully connected layer; the first one reads all cells of the last feature map."""
    return nn.Sequential(nn.Linear(inputs, units), _activation(activation)), units


@register("layer", "dropout")
def dropout(inputs: int, share: float = 0.5) -> Made:
    """In training, a share of the numbers is set to 0."""
    if not 0 <= share < 1:
        raise ValueError(f"share is {share:g}: it must be from 0 to below 1")
    return nn.Dropout(share), inputs


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
