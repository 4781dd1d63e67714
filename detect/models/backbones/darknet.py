"""Networks described by a Darknet cfg (Redmon and Farhadi, 2018): a graph of layers that read earlier layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from detect.errors import unknown
from detect.models.backbones.base import Staged
from detect.models.backbones.darknet_cfg import Section, parse

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "mish": nn.Mish,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "logistic": nn.Sigmoid,
}
MOST_CHANNELS, COARSEST, LARGEST = 65536, 1024, 64  # limits: channels and stride of a feature map; side of a kernel
LARGEST_IMAGE = 8192  # limit of the image side in pixels
EPS = 1e-6  # Darknet adds it to the standard deviation, and OpenCV's importer to the variance


class Layer(NamedTuple):
    """One layer of the graph.

    A [yolo] layer and the convolution that predicts for it belong to the head. In the graph, they are placeholders
    without sources.

    Attributes:
        module: the module that is applied to the outputs of the source layers.
        sources: indices of the layers that it reads; -1 is the image.
        channels: output channels.
        stride: output stride.
    """

    module: nn.Module
    sources: list[int]
    channels: int
    stride: int


class Scale(NamedTuple):
    """One [yolo] layer and the encoding of its boxes.

    Attributes:
        predictor: index of the convolution that predicts for it.
        source: index of the layer that this convolution reads.
        channels: channels of that layer.
        stride: stride of that layer.
        anchors: anchor sizes (width, height), as in the file.
        reach: `scale_x_y`.
        bounded: `new_coords`.
    """

    predictor: int
    source: int
    channels: int
    stride: int
    anchors: list[list[float]]
    reach: float
    bounded: bool


class Plan(NamedTuple):
    """Network described by a cfg.

    Attributes:
        sections: sections of the file, [net] first.
        size: image size (height, width) in pixels.
        stretch: whether images are stretched to the input size. True for square inputs, unless `letter_box` is set. A
            non-square input has the aspect ratio of the images it was designed for; other images keep their own.
        layers: layers of the graph, in the order of the file.
        scales: [yolo] layers, by ascending stride.
        classes: number of classes.
    """

    sections: list[Section]
    size: tuple[int, int]
    stretch: bool
    layers: list[Layer]
    scales: list[Scale]
    classes: int


class Route(nn.Module):
    """Concatenate feature maps along the channels, taking part `part` of `groups` equal parts from each of them."""

    def __init__(self, groups: int, part: int):
        super().__init__()
        self.groups, self.part = groups, part

    def forward(self, *maps: Tensor) -> Tensor:
        parts = [x.chunk(self.groups, 1)[self.part] for x in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class Shortcut(nn.Module):
    """Sum of feature maps, followed by an activation."""

    def __init__(self, act: nn.Module):
        super().__init__()
        self.act = act

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        return self.act(first)


class Pool(nn.MaxPool2d):
    """Max pooling with an even window, padded by one more cell at the right and bottom than at the left and top.

    The padding is minus infinity, so that it is never the maximum.
    """

    def __init__(self, size: int, stride: int):
        super().__init__(size, stride)
        self.edge = (size // 2 - 1, size // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad(x, self.edge, value=float("-inf")))


class Graph(Staged):
    """Backbone and neck described by a cfg. `stages` have the layer numbers of Darknet.

    Shape:
        images (B, 3, H, W) -> list of the feature maps that the [yolo] layers' convolutions read, by ascending stride.
    """

    def __init__(self, plan: Plan):
        super().__init__()
        self.taken = [scale.source for scale in plan.scales]
        self.channels, self.strides = [s.channels for s in plan.scales], [s.stride for s in plan.scales]
        self.stages = nn.ModuleList(layer.module for layer in plan.layers)
        self.sources = [layer.sources for layer in plan.layers]
        last = {j: i for i, sources in enumerate(self.sources) for j in sources}
        self.done = [[j for j, i in last.items() if i == at and j not in self.taken] for at in range(len(self.sources))]
        self._know(None)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = {-1: x}
        for i, (stage, sources, done) in enumerate(zip(self.stages, self.sources, self.done, strict=True)):
            if sources:
                maps[i] = stage(*(maps[j] for j in sources))
            for j in done:  # no later layer reads it
                del maps[j]
        return [maps[i] for i in self.taken]


def plan(text: str, file: str) -> Plan:
    """Build the network described by a cfg.

    Args:
        text: contents of the cfg.
        file: its name, for error messages.

    Raises:
        UserError: a section cannot be imported; the message names the file and the section.
    """
    sections = parse(text, file)
    net, *rest = sections
    if net.integer("channels", 3) != 3:
        raise net.error("channels must be 3: images are RGB")
    size = net.integer("height", 416, 32), net.integer("width", 416, 32)
    if max(size) > LARGEST_IMAGE:
        raise net.error(f"images of {size[1]} x {size[0]} px: a side may have {LARGEST_IMAGE}")
    layers: list[Layer] = []
    scales: list[Scale] = []
    for section in rest:
        if section.kind == "yolo":
            scales.append(_scale(section, rest, layers))
            layers[-1] = layers[-1]._replace(module=nn.Identity(), sources=[])
            layers.append(layers[-1])
        else:
            layers.append(_bounded(section, LAYERS[section.kind](section, layers)))
    if not scales:
        raise net.error("the file has no [yolo] section: only detectors of that kind can be imported")
    classes = {s.integer("classes", 20) for s in rest if s.kind == "yolo"}
    if len(classes) > 1 or len({len(s.anchors) for s in scales}) > 1 or len({s.bounded for s in scales}) > 1:
        raise net.error("the [yolo] sections must agree on classes, new_coords and the number of anchors in mask")
    scales.sort(key=lambda scale: scale.stride)
    stretch = size[0] == size[1] and not net.integer("letter_box", 0)
    return Plan(sections, size, stretch, layers, scales, classes.pop())


def _bounded(section: Section, layer: Layer) -> Layer:
    """Return the layer. Raises UserError if it is too large for memory: each route may double the channels."""
    if layer.channels > MOST_CHANNELS:
        raise section.error(f"its map has {layer.channels} channels: at most {MOST_CHANNELS} can be imported")
    if layer.stride > COARSEST:
        raise section.error(f"its map has stride {layer.stride}: at most {COARSEST} can be imported")
    if section.integer("size", 1) > LARGEST:
        raise section.error(f"size={section.values['size']}: at most {LARGEST} can be imported")
    return layer


def _input(section: Section, layers: Sequence[Layer], index: int) -> Layer:
    """Return the layer with this index; -1 is the image. Raises UserError if it cannot be read."""
    if index == -1:
        return Layer(nn.Identity(), [], 3, 1)
    if not 0 <= index < len(layers):
        raise section.error(f"it reads layer {index}, but {len(layers)} come before it: correct the number")
    if not layers[index].sources:
        raise section.error(f"it reads layer {index}, a prediction: let it read another one")
    return layers[index]


def _inputs(section: Section, layers: Sequence[Layer], key: str) -> tuple[list[int], list[Layer]]:
    """Return the indices and layers of a list of layers, which must have equal strides; negative ones are relative."""
    indices = [i if i >= 0 else len(layers) + i for i in section.integers(key)]
    if min(indices) < 0:
        raise section.error(f"{key}={section.values[key]}: only {len(layers)} layers come before it: correct it")
    read = [_input(section, layers, i) for i in indices]
    return indices, _alike(section, read)


def _alike(section: Section, read: list[Layer]) -> list[Layer]:
    if len({layer.stride for layer in read}) > 1:
        raise section.error(f"it joins maps of strides {[layer.stride for layer in read]}: they must be equal")
    return read


def _activation(section: Section, default: str) -> nn.Module:
    name = section.values.get("activation", default).lower()
    if name not in ACTIVATIONS:
        raise section.error(f"{unknown('activation', name, ACTIVATIONS)}; such a network cannot be imported")
    return ACTIVATIONS[name]()


def _convolutional(section: Section, layers: Sequence[Layer]) -> Layer:
    source = len(layers) - 1
    given, filters = _input(section, layers, source), section.integer("filters", 1, 1)
    size, stride, groups = (section.integer(key, 1, 1) for key in ("size", "stride", "groups"))
    around = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
    if given.channels % groups or filters % groups:
        raise section.error(f"groups={groups} divides not both of {given.channels} channels and {filters} filters")
    if not 0 < size - 2 * around <= stride:  # otherwise N strides of pixels would not give N cells
        raise section.error(f"size={size}, stride={stride} with padding {around} change the map's side: give pad=1")
    norm = bool(section.integer("batch_normalize", 0))
    parts: list[nn.Module] = [nn.Conv2d(given.channels, filters, size, stride, around, groups=groups, bias=not norm)]
    parts += [nn.BatchNorm2d(filters, eps=EPS)] if norm else []
    act = _activation(section, "logistic")
    return Layer(nn.Sequential(*parts, act), [source], filters, given.stride * stride)


def _route(section: Section, layers: Sequence[Layer]) -> Layer:
    sources, read = _inputs(section, layers, "layers")
    groups, part = section.integer("groups", 1, 1), section.integer("group_id", 0)
    if part >= groups or any(layer.channels % groups for layer in read):
        raise section.error(f"groups={groups} and group_id={part} do not fit {[x.channels for x in read]} channels")
    return Layer(Route(groups, part), sources, sum(x.channels for x in read) // groups, read[0].stride)


def _shortcut(section: Section, layers: Sequence[Layer]) -> Layer:
    sources, others = _inputs(section, layers, "from")
    source = len(layers) - 1
    read = _alike(section, [_input(section, layers, source), *others])
    if len({layer.channels for layer in read}) > 1:
        raise section.error(f"it adds maps of {[layer.channels for layer in read]} channels: they must be equal")
    return Layer(Shortcut(_activation(section, "linear")), [source, *sources], read[0].channels, read[0].stride)


def _maxpool(section: Section, layers: Sequence[Layer]) -> Layer:
    source = len(layers) - 1
    given, stride = _input(section, layers, source), section.integer("stride", 1, 1)
    size = section.integer("size", stride, 1)
    around = section.integer("padding", size - 1)
    if around != size - 1:
        raise section.error(f"padding={around} changes the map's side: take it out")
    pool = nn.MaxPool2d(size, stride, size // 2) if size % 2 else Pool(size, stride)
    return Layer(pool, [source], given.channels, given.stride * stride)


def _upsample(section: Section, layers: Sequence[Layer]) -> Layer:
    source = len(layers) - 1
    given, factor = _input(section, layers, source), section.integer("stride", 2, 1)
    if given.stride % factor:
        raise section.error(f"it would make a map finer than the image: its input has stride {given.stride}")
    return Layer(nn.Upsample(scale_factor=factor, mode="nearest"), [source], given.channels, given.stride // factor)


def _dropout(section: Section, layers: Sequence[Layer]) -> Layer:
    source = len(layers) - 1
    given, share = _input(section, layers, source), section.number_of("probability", 0.5)
    if not 0 <= share < 1:
        raise section.error(f"probability={share:g}: it must be at least 0 and below 1")
    return Layer(nn.Dropout(share), [source], given.channels, given.stride)


def _scale(section: Section, sections: Sequence[Section], layers: Sequence[Layer]) -> Scale:
    """Parse a [yolo] section, whose input must be a plain 1x1 convolution with the right number of filters."""
    sizes, classes = section.numbers("anchors"), section.integer("classes", 20, 1)
    mask = section.integers("mask") if "mask" in section.values else list(range(len(sizes) // 2))
    count = section.integer("num", len(sizes) // 2)
    if len(sizes) != 2 * count or not all(0 <= i < count for i in mask):
        raise section.error(f"{len(sizes)} numbers are no {count} anchors, or mask {mask} names others: correct it")
    bounded, scale = bool(section.integer("new_coords", 0)), section.number_of("scale_x_y", 1.0)
    if bounded and scale != 2:
        raise section.error(f"new_coords=1 with scale_x_y={scale:g}: only 2.0 can be imported")
    if not layers:
        raise section.error("no layer comes before it: it needs a convolution")
    before, want = sections[len(layers) - 1], len(mask) * (5 + classes)
    plain = before.kind == "convolutional" and before.integer("size", 1) == before.integer("stride", 1) == 1
    plain = plain and not before.integer("batch_normalize", 0) and before.integer("groups", 1) == 1
    act = "logistic" if bounded else "linear"
    if not plain or before.values.get("activation", "logistic") != act:
        raise section.error(f"the layer before it must be a 1x1 convolution with activation={act} and nothing else")
    if before.integer("filters", 1) != want:
        raise section.error(
            f"{len(mask)} anchors and {classes} classes need filters={want} in section {before.number}, "
            f"not {before.values.get('filters', 1)}"
        )
    source = layers[-1].sources[0]
    given = _input(section, layers, source)
    anchors = [sizes[2 * i : 2 * i + 2] for i in mask]
    if scale <= 0 or not all(side > 0 for side in sizes):
        raise section.error(f"scale_x_y={scale:g} and anchors must be above 0: correct them")
    return Scale(len(layers) - 1, source, given.channels, given.stride, anchors, scale, bounded)


LAYERS: dict[str, Callable[[Section, Sequence[Layer]], Layer]] = {
    "convolutional": _convolutional,
    "route": _route,
    "shortcut": _shortcut,
    "maxpool": _maxpool,
    "upsample": _upsample,
    "dropout": _dropout,
}
