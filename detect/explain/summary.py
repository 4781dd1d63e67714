"""The layer table of `detect info`: runs a network on the meta device, where tensors have shapes but no values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from detect.errors import UserError, unknown
from detect.models.backbones import build_network, options
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.configs import file_config, model_config, model_names
from detect.models.configs.backbone_names import TIMM, is_backbone, split
from detect.models.configs.base import ModelConfig
from detect.models.configs.sliding_window import SlidingWindowConfig
from detect.models.rcnn import SLOTS
from detect.models.receptive_field import Sight, Sights
from detect.models.region_based import RegionModel
from detect.tasks import get_task

_CLASSES = {"lenet5": 10}  # digits; the others were published for the 1000 classes of ImageNet
_SIZE, _NAMES, _POINTS = 640, 80, 17  # defaults of detectors; people have 17 keypoints in COCO


def network(
    name: str, size: int = 0, classes: int = 0, in_channels: int = 3, dims: int = 2
) -> tuple[nn.Module, Tensor]:
    """A network on the meta device, as inference runs it, and an input (1, C, size, size) for it.

    Args:
        name: of a backbone, which is then the whole classifier as published, of a model of any task, or of the YAML
            file of a model.
        size: side of the input in pixels; 0: that of its training.
        classes: number of classes; 0: as published.
        in_channels: of a backbone.
        dims: 1 or 3: the backbone with layers of that many dimensions, for signals or volumes.

    Raises:
        UserError: there is no such network.
    """
    if is_backbone(name):
        name = name if name.startswith(TIMM) else name.lower()
        with torch.device("meta"):
            net = build_network(name, classes or _CLASSES.get(split(name)[0], 1000), in_channels, dims=dims).eval()
            net.drop_aux()
            return net, torch.empty(1, in_channels, *[size or net.size] * dims)
    if dims != 2:
        raise UserError(f"--dims {dims} is for classifiers: model {name} takes images alone")
    config = dataclasses.replace(_config(name), in_channels=in_channels)
    if missing := config.anchors_missing():
        config = config.with_anchors([[1.0, 1.0]] * missing)  # any will do
    size = size or (config.window if isinstance(config, SlidingWindowConfig) else 0)  # one window
    size = size or int(get_task(config.task).defaults.get("imgsz", _SIZE))
    names, points = ([str(i) for i in range(n)] for n in (classes or _NAMES, _POINTS))
    metadata = ModelMetadata(names, list(range(1, len(names) + 1)), size=size, keypoint_names=points)
    model = build(config, metadata).eval().to("meta")
    return model, model.dummy_input(size).to("meta")


def _config(name: str) -> ModelConfig:
    """The configuration that a name or a YAML file stands for."""
    if name.lower().endswith((".yaml", ".yml")):
        return file_config(name)
    if name.lower() not in model_names():
        raise unknown("backbone or model", name, model_names())
    return model_config(name.lower())


def describe(name: str, size: int = 0, classes: int = 0, in_channels: int = 3, dims: int = 2) -> dict[str, Any]:
    """The layers of a network, with the totals of parameters and multiply-accumulates.

    For a model of the R-CNN family, `regions` is the number of proposals, the most that it takes of an image. The
    arguments are those of `network`.

    Raises:
        UserError: there is no such network, or it cannot take inputs of that size.
    """
    net, image = network(name, size, classes, in_channels, dims)
    proposals = [[image.new_zeros(SLOTS, 4, dtype=torch.float32)]] if getattr(net, "needs_proposals", False) else []
    try:
        layers = trace(net, image, *proposals)
    except RuntimeError as error:
        raise UserError(f"{name} does not run on {image.shape[-1]} px ({error}); give another --imgsz") from error
    sums = {"params": sum(p.numel() for p in net.parameters()), "macs": sum(layer["macs"] for layer in layers)}
    regions = {"regions": SLOTS} if isinstance(net, RegionModel) else {}
    return {"name": name, "imgsz": image.shape[-1], **regions, "layers": layers, **sums}


def option_names(name: str) -> str:
    """The options that a backbone may have after its name, with their defaults; "" for anything else."""
    if name.startswith(TIMM) or not is_backbone(name):
        return ""
    base, _ = split(name)
    return ", ".join([*(f"{base}:{option}={value}" for option, value in options(base).items()), f"{base}:stages=N"])


def trace(net: nn.Module, image: Tensor, *given: Any) -> list[dict[str, Any]]:
    """The leaf layers of a network in the order in which they run.

    Args:
        net: the network.
        image: its input.
        given: its further inputs.

    Returns:
        For each layer name, type, output shape, params, macs, field and stride. The receptive field and the stride are
        in pixels, of the larger side; the stride is None for outputs that are no maps, both for outputs that do not
        depend on the image.
    """
    sights, rows, met = Sights(image), list[dict[str, Any]](), set[nn.Module]()

    def watch(label: str, layer: nn.Module) -> None:
        def note(module: nn.Module, _: Any, output: Any) -> None:
            for out in [x for x in tree_leaves(output) if isinstance(x, Tensor)][:1]:
                again = {"params": 0} if module in met else {}  # weights shared by levels count once
                rows.append(row(label, module, out, sights.get(out), len(image)) | again)
                met.add(module)

        layer.register_forward_hook(note)

    for label, layer in net.named_modules():
        own = next(layer.parameters(recurse=False), None) is not None
        if own or next(layer.children(), None) is None:  # any() would ask an empty Sequential, which is false
            watch(label, layer)
    with torch.no_grad(), sights:
        net(image, *given)
    return rows


def row(label: str, layer: nn.Module, output: Tensor, sight: Sight | None, images: int) -> dict[str, Any]:
    """The row of one layer: see `trace`."""
    seen = sight if sight and sight.field else None  # a vector depends on the whole image
    return {
        "name": label,
        "type": type(layer).__name__,
        "output": list(output.shape[1:]),
        "params": sum(p.numel() for p in layer.parameters(recurse=False)),
        "macs": macs(layer, output) // images,
        "field": _whole(max(seen.field)) if seen else None,
        "stride": _whole(max(seen.stride)) if seen and output.ndim == len(seen.stride) + 2 else None,
    }


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of a convolution or linear layer with this output; 0 for other layers, as usual."""
    if isinstance(layer, _ConvNd):
        each = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        if layer.transposed:  # an output is the sum of some of the filter's weights: of one in each step of the stride
            return each * output.numel() // math.prod(layer.stride)
    elif isinstance(layer, nn.Linear):
        each = layer.in_features
    else:
        return 0
    return each * output.numel()


def multiply_accumulates(model: Model, size: int) -> int:
    """Multiply-accumulates of a forward pass on one sample of side `size`; 0 where they cannot be counted.

    Parameters and buffers are replaced by shapes without values during the pass, so the model stays as it is.
    """
    total, training = 0, model.training

    def add(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        total += macs(layer, output)

    layers = [layer for layer in model.modules() if isinstance(layer, _ConvNd | nn.Linear)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    tensors = {n: t.detach().to("meta") for n, t in (*model.named_parameters(), *model.named_buffers())}
    image = model.dummy_input(size).to("meta")
    proposals = [[image.new_zeros(SLOTS, 4, dtype=torch.float32)]] if model.needs_proposals else []
    try:
        with torch.no_grad():
            functional_call(model.eval(), tensors, (image, *proposals))
    except (RuntimeError, TypeError, ValueError):  # a network that reads values, or takes no such input
        return 0
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return total


def table(result: dict[str, Any]) -> str:
    """The result of `describe` as text."""
    rows: list[tuple[str, ...]] = [("layer", "type", "output", "params", "MACs", "field", "stride")]
    for layer in result["layers"]:
        shape, seen = "x".join(map(str, layer["output"])), (layer["field"], layer["stride"])
        numbers = (f"{layer['params']:,}", f"{layer['macs']:,}", *("-" if v is None else f"{v:g}" for v in seen))
        rows.append((layer["name"], layer["type"], shape, *numbers))
    sums = (f"{result['params']:,}", f"{result['macs']:,}", "", "")
    regions = f", {result['regions']} regions" if "regions" in result else ""
    rows.append((f"{result['name']} at {result['imgsz']} px{regions}", "", "", *sums))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for line in rows:
        cells = [c.ljust(n) if i < 3 else c.rjust(n) for i, (c, n) in enumerate(zip(line, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
