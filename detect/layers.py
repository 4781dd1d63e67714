"""What a network consists of: `detect info`. Runs it on the meta device, where tensors have shapes but no numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from detect.backbones import BACKBONES, build_backbone
from detect.cli import model_config, model_names
from detect.errors import unknown
from detect.models import anchors_missing, build
from detect.models.base import Card


def network(name: str, size: int, classes: int) -> tuple[nn.Module, Tensor]:
    """The backbone or model called `name` on the meta device, and an input (1, 3, size, size) for it."""
    if name in BACKBONES:
        with torch.device("meta"):
            return build_backbone(name).eval(), torch.empty(1, 3, size, size)
    if name not in model_names():
        raise unknown("backbone or model", name, [*BACKBONES, *model_names()])
    config = model_config(name)
    config = dataclasses.replace(
        config, anchors=config.anchors or [[1.0, 1.0]] * anchors_missing(config)
    )  # any will do
    card = Card([str(i) for i in range(classes)], list(range(1, classes + 1)))
    model = build(config, card).eval().to("meta")
    return model, torch.empty(1, config.in_channels, size, size, dtype=torch.uint8, device="meta")


def describe(name: str, size: int, classes: int = 80) -> dict[str, Any]:
    """The leaf layers as they run: name, type, output shape, parameters, multiply-accumulates; and the sums."""
    net, image = network(name, size, classes)
    rows: list[dict[str, Any]] = []

    def watch(label: str, layer: nn.Module) -> None:
        def note(module: nn.Module, _: Any, output: Tensor) -> None:
            params = sum(p.numel() for p in module.parameters())
            rows.append(
                {
                    "name": label,
                    "type": type(module).__name__,
                    "output": list(output.shape[1:]),
                    "params": params,
                    "macs": macs(module, output),
                }
            )

        layer.register_forward_hook(note)

    for label, layer in net.named_modules():
        if next(layer.children(), None) is None:  # any() would ask an empty Sequential, which is false
            watch(label, layer)
    with torch.no_grad():
        net(image)
    params = sum(p.numel() for p in net.parameters())
    return {"name": name, "imgsz": size, "layers": rows, "params": params, "macs": sum(row["macs"] for row in rows)}


def macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates of one image through a convolution or dense layer; 0 for others, as is usual."""
    if isinstance(layer, nn.Conv2d):
        each = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
    elif isinstance(layer, nn.Linear):
        each = layer.in_features
    else:
        return 0
    return each * output[0].numel()


def table(result: dict[str, Any]) -> str:
    """`describe`'s answer as text."""
    rows = [("layer", "type", "output", "params", "MACs")]
    for row in result["layers"]:
        shape = "x".join(map(str, row["output"]))
        rows.append((row["name"], row["type"], shape, f"{row['params']:,}", f"{row['macs']:,}"))
    rows.append((f"{result['name']} at {result['imgsz']} px", "", "", f"{result['params']:,}", f"{result['macs']:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for row in rows:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False))
        lines.append(
            left + "  " + "  ".join(cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))
        )
    return "\n".join(lines)
