"""Residual and plain networks: what depth costs without shortcuts, and what a block does at its start."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from detect.models.backbones.base import initialized
from detect.models.layers import conv
from tools.digit_crops import crops, fit
from tools.drawing import chart

EPOCHS, IMAGES, CHANNELS = 3, 1024, 16
DEPTHS = (4, 12)  # blocks of two convolutions


def draw() -> dict[str, np.ndarray]:
    """The training loss of plain and residual networks of two depths, and how large gradients are by depth."""
    return {"residual": _losses(), "residual_gradients": _gradients()}


class Plain(nn.Module):
    """The two convolutions of a residual block without its shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = conv(channels, channels, 3)[0], nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(x)))


class Residual(Plain):
    """The same convolutions, with the shortcut: a[l+2] = g(z[l+2] + a[l])."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


def network(block: type[Plain], depth: int) -> nn.Sequential:
    """A stem, a max pool, `depth` blocks of one width, and a dense layer."""
    torch.manual_seed(0)
    stem = [conv(3, CHANNELS, 3)[0], nn.MaxPool2d(4)]
    blocks = [block(CHANNELS) for _ in range(depth)]
    made = initialized(nn.Sequential(*stem, *blocks, nn.Flatten(), nn.Linear(CHANNELS * 64, 10)))
    for one in made:
        if isinstance(one, Residual):  # the block begins as the identity
            nn.init.zeros_(one.second.weight)
    return made


def _losses() -> np.ndarray:
    rows = []
    images, labels = (one[:IMAGES] for one in crops())
    for name, block in (("plain", Plain), ("residual", Residual)):
        for depth in DEPTHS:
            made = network(block, depth)
            losses = fit(made, list(made.parameters()), EPOCHS, 0.001, (images, labels))
            rows += [
                {"epoch": epoch + 1, "training loss": loss, "kind": name, "layers": f"{2 * depth + 2} layers"}
                for epoch, loss in enumerate(losses)
            ]
    encoding = {
        "x": {"field": "epoch", "type": "ordinal", "axis": {"labelAngle": 0}},
        "y": {"field": "training loss", "type": "quantitative", "scale": {"zero": False}},
        "color": {"field": "kind", "type": "nominal"},
        "strokeDash": {"field": "layers", "type": "nominal"},
    }
    return chart({"data": {"values": rows}, "mark": "line", "encoding": encoding, "width": 380, "height": 220})


def _gradients() -> np.ndarray:
    """The norm of the gradient of every block's first convolution at the start, by depth."""
    images, labels = crops()
    rows = []
    for name, block in (("plain", Plain), ("residual", Residual)):
        made = network(block, 24)
        nn.functional.cross_entropy(made(images[:64]), labels[:64]).backward()
        for i, one in enumerate(one for one in made if isinstance(one, Plain)):
            grad = one.second.weight.grad
            assert grad is not None
            rows.append({"block": i + 1, "gradient": float(grad.norm()), "kind": name})
    encoding = {
        "x": {"field": "block", "type": "quantitative", "title": "block, from the image on"},
        "y": {"field": "gradient", "type": "quantitative", "title": "norm of the gradient", "scale": {"type": "log"}},
        "color": {"field": "kind", "type": "nominal"},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "point": True}, "encoding": encoding}
    return chart(spec | {"width": 380, "height": 200})
