"""Base classes of networks: stages that run in order, each with its channels and stride, and a classifier tail.

A family defines its `Parts` once. They are used for feature maps (`Backbone`) or as a whole classifier (`Network`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a network, as built by the registered function (in_channels, padding) of its family.

    Attributes:
        stages: modules that run in order; the output of stage i is (B, channels[i], H / strides[i], W / strides[i]).
        channels: output channels of each stage.
        strides: output stride of each stage.
        tail: function from the number of classes to the layers that turn the last feature map into logits (B, classes).
        size: image side in pixels that the network was published for.
        aux: stage index -> function from the number of classes to the auxiliary classifier on the stage's output.
        original: the network whose weights were published, sharing its layers with stages, tail and aux. It provides
            the published names of our tensors.
        unpadded: whether the network can run without padding ("valid").
    """

    stages: Sequence[nn.Module]
    channels: Sequence[int]
    strides: Sequence[int]
    tail: Callable[[int], nn.Sequential]
    size: int = 224
    aux: Mapping[int, Callable[[int], nn.Module]] = field(default_factory=dict)
    original: nn.Module | None = None
    unpadded: bool = False


class Logits(NamedTuple):
    """Output of a whole network.

    Attributes:
        logits: (B, C).
        aux: logits of the auxiliary classifiers, used only for the loss.
    """

    logits: Tensor
    aux: tuple[Tensor, ...] = ()


class Staged(nn.Module):
    """Base class of networks made of stages that run in order.

    Attributes:
        stages: the stages.
        names: our name of a tensor -> its published name, for tensors with published weights.
    """

    stages: nn.ModuleList
    names: dict[str, str]

    def _know(self, original: nn.Module | None) -> None:
        originals = {} if original is None else {id(t): k for k, t in original.state_dict(keep_vars=True).items()}
        self.names = {k: originals[id(t)] for k, t in self.state_dict(keep_vars=True).items() if id(t) in originals}

    def renamed(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename published tensors to our names; RGB filters are summed if this network takes grayscale images."""
        own = self.state_dict()
        found = {ours: published[original] for ours, original in self.names.items() if original in published}
        for name, tensor in found.items():
            if tensor.ndim == 4 and tensor.shape[1] == 3 and own[name].shape[1] == 1:
                found[name] = tensor.sum(1, keepdim=True)
        return found


def chosen(strides: Sequence[int], levels: Sequence[int]) -> list[int]:
    """Select the strides (2 ** level) of the requested levels; the coarsest stride replaces any coarser level.

    Args:
        strides: output strides of the network's stages.
        levels: requested levels.

    Returns:
        Distinct strides, ascending.

    Raises:
        ValueError: the network lacks one of the other levels.
    """
    reached = sorted({min(2**level, max(strides)) for level in levels})
    missing = [stride for stride in reached if stride not in strides]
    if missing:
        raise ValueError(f"this backbone has strides {sorted(set(strides))}, not {missing}")
    return reached


class Backbone(Staged):
    """Backbone: stages that run in order, some of which return feature maps.

    `channels` and `strides` are those of the returned feature maps. Levels coarser than the network's coarsest feature
    map are replaced by that one, from which the neck computes them (`Coarser`).

    Args:
        parts: parts of the network.
        levels: exponents of two; level 3 is the output of the last stage of stride 8.

    Shape:
        images (B, C, H, W) -> list of (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])), finest first.

    Raises:
        ValueError: the network lacks one of the other levels.
    """

    def __init__(self, parts: Parts, levels: Sequence[int]):
        super().__init__()
        self.strides = chosen(parts.strides, levels)
        last = {stride: i for i, stride in enumerate(parts.strides)}
        self.taken = [last[stride] for stride in self.strides]
        self.stages = nn.ModuleList(parts.stages[: max(self.taken) + 1])
        self.channels = [parts.channels[i] for i in self.taken]
        self._know(parts.original)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.taken:
                maps.append(x)
        return maps


class Network(Staged):
    """Whole network, used as a classifier.

    Attributes:
        stages: stages of the backbone.
        aux: auxiliary classifiers, by stage index.
        neck: layers between the stages and the head; stages and neck compute the features.
        head: the last layer with weights, the dropout before it and everything after it.
        width: channels of the features.
        size: image side in pixels that the network was published for.
        stride: stride of the last feature map, in pixels.

    Shape:
        images (B, in_channels, H, W) -> `Logits`, in training and in evaluation mode.
    """

    def __init__(self, parts: Parts, classes: int):
        super().__init__()
        self.stages = nn.ModuleList(parts.stages)
        self.aux = nn.ModuleDict({str(i): make(classes) for i, make in parts.aux.items()})
        tail = list(parts.tail(classes))
        start = max(i for i, layer in enumerate(tail) if next(layer.parameters(), None) is not None)
        self.width = tail[start].get_parameter("weight").shape[1]
        while start and isinstance(tail[start - 1], nn.Dropout):
            start -= 1
        self.neck, self.head = nn.Sequential(*tail[:start]), nn.Sequential(*tail[start:])
        self.size, self.stride = parts.size, parts.strides[-1]
        self._know(parts.original)

    def forward(self, x: Tensor) -> Logits:
        aux = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if str(i) in self.aux:
                aux.append(self.aux[str(i)](x))
        return Logits(self.head(self.neck(x)), tuple(aux))

    def features(self, x: Tensor) -> Tensor:
        """Compute the input of `head`: vectors (B, width), or feature maps (B, width, H, W) if it is a convolution."""
        for stage in self.stages:
            x = stage(x)
        return self.neck(x)

    def outputs(self) -> list[nn.Module]:
        """Return the layers that compute the logits, also of the auxiliary classifiers; one output per class."""
        parts = [self.head, *self.aux.values()]
        weighted = ([m for m in p.modules() if next(m.parameters(recurse=False), None) is not None] for p in parts)
        return [layers[-1] for layers in weighted]

    def drop_aux(self) -> None:
        """Remove the auxiliary classifiers, which inference does not need."""
        self.aux.clear()


def pooled(channels: int, dropout: float = 0.0) -> Callable[[int], nn.Sequential]:
    """Return the usual tail: global average pooling (Lin et al., 2014), optional dropout and one dense layer."""

    def tail(classes: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        layers += [nn.Dropout(dropout)] if dropout else []
        return nn.Sequential(*layers, nn.Linear(channels, classes))

    return tail


def cut(parts: Parts, count: int) -> Parts:
    """Keep the first stages of a network, and append global average pooling and a dense layer.

    Args:
        parts: parts of the network; its auxiliary classifiers are dropped.
        count: number of stages to keep.

    Raises:
        ValueError: it has fewer stages.
    """
    total = len(parts.stages)
    if not 1 <= count <= total:
        raise ValueError(f"stages is {count}: it must be from 1 to {total}")
    channels, strides = parts.channels[:count], parts.strides[:count]
    tail = pooled(channels[-1])
    return replace(parts, stages=parts.stages[:count], channels=channels, strides=strides, tail=tail, aux={})


def shortened(parts: Parts, stride: int, window: int, hidden: Sequence[int]) -> Parts:
    """Truncate a network after a stage, and append dense layers that read all cells of a window.

    Args:
        parts: parts of the network; its auxiliary classifiers are dropped.
        stride: stride of the last stage to keep.
        window: side of the window in pixels.
        hidden: widths of the hidden dense layers.

    Raises:
        ValueError: no stage has this stride, or the window is too small for the stages.
    """
    if stride not in parts.strides:
        raise ValueError(f"its strides are {sorted(set(parts.strides))}, not {stride}")
    end = len(parts.strides) - list(parts.strides)[::-1].index(stride)
    stages = parts.stages[:end]
    side = cells(nn.Sequential(*stages), window)
    if not side:
        raise ValueError("nothing is left of it there")
    widths = [parts.channels[end - 1] * side**2, *hidden]

    def tail(classes: int) -> nn.Sequential:
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
        return initialized(nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes)))

    return replace(parts, stages=stages, channels=parts.channels[:end], strides=parts.strides[:end], tail=tail, aux={})


def cells(part: nn.Module, window: int, channels: int = 0) -> int:
    """Return the side in cells of the feature map of a `window` in pixels; 0 for none. Only shapes are computed.

    Args:
        part: layers.
        window: side of their input.
        channels: of their input; 0: those of the filters of the first layer.
    """
    channels = channels or next(part.parameters()).shape[1]
    tensors = {name: t.to("meta") for name, t in chain(part.named_parameters(), part.named_buffers())}
    try:
        out: Tensor = torch.func.functional_call(part, tensors, torch.empty(2, channels, window, window, device="meta"))
    except RuntimeError:  # the window is smaller than a kernel
        return 0
    return out.shape[-1] if out.ndim == 4 else 0


def take_channels(network: M, in_channels: int) -> M:
    """Replace the first convolution of `network`, in place, if it takes another number of input channels."""
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != in_channels:
        layer = nn.Conv2d(
            in_channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        network.set_submodule(name, initialized(layer))
    return network


def initialized(network: M, act: str = "relu") -> M:
    """Initialize `network` in place: Gaussian weights after He et al. (2015) for `act`, and zero biases."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity=act)  # type: ignore[arg-type]
            if layer.bias is not None:
                with torch.no_grad():
                    layer.bias.zero_()
    return network
