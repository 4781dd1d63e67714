"""Decoupled head of YOLOX (Ge et al., 2021): one prediction per cell, with separate branches for class and box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from anchors import grid
from anchors.coding import decode_deltas, encode_deltas
from detect.models.backbones.blocks import Conv, flat, tower
from detect.types import HeadOutput, NamedRows

RARE = -4.6  # initial bias: an initial probability of 1 % for a class or an object


class DecoupledHead(nn.Module):
    """Decoupled detection head, with one branch for classes and one for box and objectness at each level.

    A box is encoded by the offset of its centre from the upper left corner of the cell, in strides, and by the
    logarithm of its size in strides.

    Args:
        channels: channels of each input feature map.
        strides: stride of each input feature map.
        classes: number of classes.
        width: channels of the branches.
        depth: number of convolutions in each branch.
        block: kind of convolution in the branches.
        act: name of the activation.

    Shape:
        feature maps (B, channels[i], H_i, W_i) -> `HeadOutput` with logits (B, A, C), regression (B, A, 4) and
        objectness (B, A). A runs over levels, rows and columns.

    Reference:
        Ge et al., YOLOX, 2021.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        width: int,
        depth: int = 2,
        block: Callable[..., nn.Module] = Conv,
        act: str = "silu",
    ):
        super().__init__()
        self.strides = list(strides)
        self.stems = nn.ModuleList(Conv(c, width, 1, act=act) for c in channels)
        self.classify = nn.ModuleList(tower(width, classes, depth, act, [RARE], block) for _ in channels)
        start = [0.0, 0.0, 0.0, 0.0, RARE]
        self.regress = nn.ModuleList(tower(width, 5, depth, act, start, block) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        said = []
        for x, stem, classify, regress in zip(maps, self.stems, self.classify, self.regress, strict=True):
            seen = stem(x)
            said.append((flat(classify(seen)), flat(regress(seen))))
        logits, rest = (torch.cat(parts, 1) for parts in zip(*said, strict=True))
        priors = grid.priors([(x.shape[2], x.shape[3]) for x in maps], self.strides, device=logits.device)
        return HeadOutput(logits, rest[..., :4], priors, objectness=rest[..., 4])

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """Yield the layers whose output channels are classes, and their channel layout; see `Model.named_rows`."""
        yield from ((tower[-1], NamedRows()) for tower in self.classify)  # type: ignore[index]

    def boxes(self, raw: HeadOutput) -> Tensor:
        """Decode the predicted boxes (B, A, 4), or (P, 4) for P selected predictions, from `raw`."""
        return decode_deltas(raw.regression, _reference(raw.priors))

    def scores(self, raw: HeadOutput) -> Tensor:
        """Return scores (B, A, C): the probability of each class times objectness."""
        return raw.logits.sigmoid() * raw.objectness.sigmoid()[..., None]  # type: ignore[union-attr]

    def regression_loss(self, raw: HeadOutput, boxes: Tensor) -> Tensor:
        """Return the L1 loss (P,) between the encoded boxes of P predictions and encoded target boxes (P, 4)."""
        return (raw.regression - encode_deltas(boxes, _reference(raw.priors))).abs().sum(-1)


def _reference(priors: grid.Priors) -> Tensor:
    """Return reference boxes (A, 4) with sides of one stride, centred at the upper left corners of the cells."""
    return torch.cat((priors.centers - priors.strides[..., None], priors.centers), -1)
