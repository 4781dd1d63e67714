"""What dense heads share: a tower of convolutions a level, and the order of predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detect.backbones.blocks import Conv


class Predict(nn.Conv2d):
    """A convolution in float32 whatever the autocast: the eight bits of bfloat16 are too few for borders of boxes."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def tower(channels: int, outputs: int, depth: int, act: str, bias: list[float]) -> nn.Sequential:
    """`depth` 3x3 convolutions and a 1x1 prediction whose biases start at `bias`, repeated."""
    predict = Predict(channels, outputs, 1)
    predict.bias = nn.Parameter(torch.tensor(bias).repeat(outputs // len(bias)))
    return nn.Sequential(*(Conv(channels, channels, 3, act=act) for _ in range(depth)), predict)


def flat(x: Tensor, anchors: int = 1) -> Tensor:
    """(B, anchors * R, H, W) -> (B, H * W * anchors, R): rows, then columns, then anchors."""
    b, _, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, h * w * anchors, -1)
