"""The decoupled head of YOLOX (Ge et al., 2021): one prediction for each cell, classes apart from the box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from anchors import grid
from anchors.coding import decode_deltas, encode_deltas
from detect.models.backbones.blocks import Conv, flat, tower
from detect.types import HeadOutput, NamedRows

RARE = -4.6  # a class or an object is there one time in a hundred, before anything is learned


class DecoupledHead(nn.Module):
    """forward(maps) -> HeadOutput with logits (B, A, C), regression (B, A, 4), objectness (B, A).

    A runs over levels, rows, columns. A box is coded by its centre, in strides from the upper left corner of the cell,
    and the logarithm of its size in strides. `width` is the channels of the branches, `depth` their convolutions.
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
        """The layers whose outputs belong to classes, and how they are laid out: see `Model.named_rows`."""
        yield from ((tower[-1], NamedRows()) for tower in self.classify)  # type: ignore[index]

    def boxes(self, raw: HeadOutput) -> Tensor:
        """The predicted boxes (B, A, 4), or (P, 4), decoded from `raw`."""
        return decode_deltas(raw.regression, _reference(raw.priors))

    def scores(self, raw: HeadOutput) -> Tensor:
        """Objectness times class scores (B, A, C)."""
        return raw.logits.sigmoid() * raw.objectness.sigmoid()[..., None]  # type: ignore[union-attr]

    def regression_loss(self, raw: HeadOutput, boxes: Tensor) -> Tensor:
        """Distance of the codes of P predictions from those of target boxes (P, 4): (P,)."""
        return (raw.regression - encode_deltas(boxes, _reference(raw.priors))).abs().sum(-1)


def _reference(priors: grid.Priors) -> Tensor:
    """Boxes (A, 4) with sides of one stride around the upper left corners of the cells."""
    return torch.cat((priors.centers - priors.strides[..., None], priors.centers), -1)
