"""Building blocks of networks. Feature maps have shape (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "leaky": nn.LeakyReLU,
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """Return an activation by name. It is not in place, which would copy the input where its gradient needs it."""
    return ACTIVATIONS[name]()


class Conv(nn.Sequential):
    """Convolution with same padding (for odd kernels), batch normalization and activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: str = "hardswish", groups: int = 1
    ):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
            activation(act),
        )


class Separable(nn.Sequential):
    """Depthwise separable convolution (Howard et al., 2017): a depthwise and a pointwise (1x1) convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: str = "hardswish"):
        super().__init__(
            Conv(inputs, inputs, kernel, stride, act, groups=inputs),
            Conv(inputs, outputs, 1, act=act),
        )


class Fused(nn.Module):
    """Convolution fused with its activation into one oneDNN primitive, for inference on the CPU.

    The weights are reordered into oneDNN's layout once for each dtype. This saves a pass over memory and a reordering
    of the weights in each call: a sixth of a convolution's time in bfloat16.
    """

    NAMES: ClassVar[dict[type[nn.Module], str]] = {
        nn.SiLU: "swish",
        nn.ReLU: "relu",
        nn.Hardswish: "hardswish",
        nn.Identity: "none",
    }

    def __init__(self, conv: nn.Conv2d, act: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias, self.act = conv.weight, conv.bias, self.NAMES[type(act)]
        self.place = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.packed: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype not in self.packed:
            weight = self.weight.to(x.dtype, memory_format=torch.channels_last)
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.place, list(x.shape))
            self.packed[x.dtype] = weight, None if self.bias is None else self.bias.to(x.dtype)
        return torch.ops.mkldnn._convolution_pointwise(x, *self.packed[x.dtype], *self.place, self.act, [], "")


class Residual(nn.Module):
    """Residual block: two 3x3 convolutions with an identity shortcut (He et al., 2016)."""

    def __init__(self, channels: int, act: str = "hardswish"):
        super().__init__()
        self.first = Conv(channels, channels, 3, act=act)
        self.second = Conv(channels, channels, 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Bottleneck(nn.Module):
    """A 1x1 convolution and a `block` of side `kernel`, with an identity shortcut if `shortcut` is true."""

    def __init__(
        self,
        channels: int,
        act: str,
        shortcut: bool = True,
        block: Callable[..., nn.Module] = Conv,
        kernel: int = 3,
    ):
        super().__init__()
        self.shortcut = shortcut
        self.first = Conv(channels, channels, 1, act=act)
        self.second = block(channels, channels, kernel, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class CSP(nn.Module):
    """Cross-stage partial stage (Wang et al., 2020): half of the channels pass through `depth` blocks, half skip them.

    Shape:
        (B, inputs, H, W) -> (B, outputs, H, W).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        depth: int = 1,
        act: str = "hardswish",
        block: Callable[[int, str], nn.Module] = Residual,
    ):
        super().__init__()
        self.share = outputs // 2
        self.split = Conv(inputs, 2 * self.share, 1, act=act)
        self.blocks = nn.Sequential(*(block(self.share, act) for _ in range(depth)))
        self.merge = Conv(2 * self.share, outputs, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        around, through = self.split(x).split(self.share, 1)
        return self.merge(torch.cat([around, self.blocks(through)], 1))


class PyramidPool(nn.Module):
    """Spatial pyramid pooling (He et al., 2015) by repeated 5x5 max pooling: windows of 5, 9 and 13 cells."""

    def __init__(self, channels: int, act: str = "hardswish"):
        super().__init__()
        self.reduce = Conv(channels, channels // 2, 1, act=act)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.merge = Conv(channels // 2 * 4, channels, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.reduce(x)]
        for _ in range(3):
            seen.append(self.pool(seen[-1]))
        return self.merge(torch.cat(seen, 1))


class Predict(nn.Conv2d):
    """Convolution in the dtype of its weights, ignoring autocast: bfloat16 is too coarse for box coordinates."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def tower(
    channels: int, outputs: int, depth: int, act: str, bias: list[float], block: Callable[..., nn.Module] = Conv
) -> nn.Sequential:
    """Return a prediction branch: `depth` 3x3 convolutions and a 1x1 convolution.

    Args:
        channels: input channels.
        outputs: output channels.
        depth: number of 3x3 convolutions.
        act: name of the activation.
        bias: initial biases of the 1x1 convolution, repeated to `outputs` values.
        block: kind of the 3x3 convolutions.
    """
    predict = Predict(channels, outputs, 1)
    predict.bias = nn.Parameter(torch.tensor(bias).repeat(outputs // len(bias)))
    return nn.Sequential(*(block(channels, channels, 3, act=act) for _ in range(depth)), predict)


def flat(x: Tensor, anchors: int = 1) -> Tensor:
    """Reshape (B, anchors * R, H, W) to (B, H * W * anchors, R), by rows, then columns, then anchors."""
    b, _, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, h * w * anchors, -1)
