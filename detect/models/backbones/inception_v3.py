"""Inception v3 (Szegedy et al., 2016): torchvision's network, with pools as modules whose padding can change."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import inception


class Reduce(inception.InceptionB):
    """Block that downsamples from stride 8 to 16."""

    def __init__(self, in_channels: int):
        super().__init__(in_channels)
        self.pool = nn.MaxPool2d(3, 2)

    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch3x3(x), double, self.pool(x)]


class ReduceAgain(inception.InceptionD):
    """Block that downsamples from stride 16 to 32."""

    def __init__(self, in_channels: int):
        super().__init__(in_channels)
        self.pool = nn.MaxPool2d(3, 2)

    def _forward(self, x: Tensor) -> list[Tensor]:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return [self.branch3x3_2(self.branch3x3_1(x)), seven, self.pool(x)]


class Aux(inception.InceptionAux):
    """Auxiliary classifier on the feature map of stride 16."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__(in_channels, num_classes)
        self.pool = nn.AvgPool2d(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv1(self.conv0(self.pool(x))).mean((2, 3)))


def whole() -> inception.Inception3:
    """Build torchvision's network from these blocks, without its transform of the input."""
    blocks = [inception.BasicConv2d, inception.InceptionA, Reduce, inception.InceptionC, ReduceAgain]
    blocks += [inception.InceptionE, Aux]
    return inception.Inception3(inception_blocks=blocks, transform_input=False, init_weights=True)
