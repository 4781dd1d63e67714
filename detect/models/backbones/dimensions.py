"""Conversion of 2-D networks to 1-D and 3-D: every layer is replaced by its counterpart with the same window side.

A window of f x f cells becomes one of f, or of f x f x f. Channels, strides, paddings, shortcuts and names stay the
same. A dense layer that reads a feature map of s x s cells then reads s, or s x s x s cells.

New weights are sampled from the weights of the replaced layer, whatever their distribution, and multiplied by
sqrt(old inputs / new inputs): the sum over the inputs keeps its variance, as the usual initializers require (He et al.,
2015, equation 10).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from detect.models.backbones.base import Parts
from detect.models.backbones.efficientnet_lite import Same, Same1d, Same3d

M = TypeVar("M", bound=nn.Module)
_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_MAX = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
_MEAN = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
# 2-D layer -> its 1-D and 3-D counterparts, and the constructor arguments that are copied.
TWINS: dict[type[nn.Module], tuple[Any, Any, Sequence[str]]] = {
    nn.Conv2d: (nn.Conv1d, nn.Conv3d, _CONVOLUTION),
    Same: (Same1d, Same3d, _CONVOLUTION),
    nn.BatchNorm2d: (nn.BatchNorm1d, nn.BatchNorm3d, _NORM),
    nn.MaxPool2d: (nn.MaxPool1d, nn.MaxPool3d, _MAX),
    nn.AvgPool2d: (nn.AvgPool1d, nn.AvgPool3d, _MEAN),
    nn.AdaptiveAvgPool2d: (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool3d, ("output_size",)),
    nn.AdaptiveMaxPool2d: (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool3d, ("output_size",)),
    nn.Dropout2d: (nn.Dropout1d, nn.Dropout3d, ("p", "inplace")),
}


def in_dimensions(parts: Parts, dims: int) -> Parts:
    """Convert a network to 1, 2 or 3 dimensions, replacing its layers in place.

    Args:
        parts: parts of a 2-D network.
        dims: number of spatial dimensions.

    Raises:
        ValueError: a layer has no counterpart.
    """
    if dims == 2:
        return parts

    def with_twins(make: Callable[[int], M]) -> Callable[[int], M]:
        return lambda classes: spread(make(classes), dims)

    return replace(
        parts,
        stages=[spread(stage, dims) for stage in parts.stages],
        tail=with_twins(parts.tail),
        aux={i: with_twins(make) for i, make in parts.aux.items()},
        original=None,  # published weights do not fit
    )


def spread(network: M, dims: int) -> M:
    """Replace all layers of a 2-D network by their counterparts in `dims` dimensions, in place.

    The dense layer after an adaptive pool to several cells is resized.

    Args:
        network: a network, or a single layer.
        dims: number of spatial dimensions; 2 changes nothing.

    Returns:
        The network; for a single layer, its counterpart.

    Raises:
        ValueError: a layer has no counterpart.
    """
    if dims == 2:
        return network
    twins: dict[nn.Module, nn.Module] = {}  # a layer that is used twice stays shared

    def walk(module: Any) -> Any:
        if module not in twins:
            twins[module] = twin(module, dims)
            for name, child in module.named_children():
                setattr(module, name, walk(child))
        return twins[module]

    walked = walk(network)
    cells = 1
    for name, layer in list(walked.named_modules()):
        if isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool3d):
            cells = side(layer.output_size)
        elif isinstance(layer, nn.Linear) and cells > 1:
            walked.set_submodule(name, _dense(layer, layer.in_features * cells**dims // cells**2))
            cells = 1
    return walked


def twin(layer: nn.Module, dims: int) -> nn.Module:
    """Return the counterpart of a layer in `dims` dimensions; the layer itself if it fits any number."""
    if type(layer) not in TWINS:
        leaf = next(layer.children(), None) is None
        if isinstance(layer, tuple(TWINS)) or (leaf and type(layer).__name__.endswith("2d")):
            raise ValueError(f"{layer} is two-dimensional")
        return layer
    *kinds, names = TWINS[type(layer)]
    given = {name: getattr(layer, name) for name in names}
    given |= {name: side(value) for name, value in given.items() if isinstance(value, tuple)}
    if isinstance(layer, nn.Conv2d):
        given["bias"] = layer.bias is not None
    with torch.device("meta"):
        made = kinds[dims // 2](**given)
    return _like(layer, made)


def side(value: Any) -> int:
    """Return the side of a window. Raises ValueError if its sides differ."""
    sides = set(value) if isinstance(value, tuple) else {value}
    if len(sides) > 1:
        raise ValueError(f"a window of {' x '.join(map(str, value))} has no one side")
    return sides.pop()


def _dense(layer: nn.Linear, inputs: int) -> nn.Module:
    with torch.device("meta"):
        made = nn.Linear(inputs, layer.out_features, layer.bias is not None)
    return _like(layer, made)


@torch.no_grad()
def _like(old: nn.Module, new: nn.Module) -> nn.Module:
    """Copy device, mode and tensors of `old` to `new`; tensors of another shape are sampled from those of `old`."""
    tensors = old.state_dict()
    for name, tensor in tensors.items():
        resized = new.state_dict()[name]
        if resized.shape != tensor.shape:
            place = torch.randint(tensor.numel(), resized.shape, device=tensor.device)
            tensors[name] = tensor.flatten()[place] * math.sqrt(tensor[0].numel() / resized[0].numel())
    new.load_state_dict(tensors, assign=True)
    return new.train(old.training)
