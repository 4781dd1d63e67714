"""Heads over anchor boxes: several shapes at each cell, each with objectness, box and classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anchors import grid
from anchors.coding import decode_bounded, decode_offsets, encode_bounded, encode_offsets
from detect.models.backbones.blocks import flat, tower
from detect.registry import register
from detect.types import HeadOutput, NamedRows


@register("head", "anchor")
class AnchorHead(nn.Module):
    """forward(maps) -> HeadOutput with logits (B, A, C), regression (B, A, 4), objectness (B, A).

    A runs over levels, rows, columns, anchors. Boxes are coded in the bounded form: at most four times the anchor.

    Args:
        channels: channels of the feature maps, finest first.
        strides: their strides.
        classes: number of classes.
        depth: 3x3 convolutions in each branch.
        anchors: widths and heights in pixels by area, equally many for each level. Empty: one of the size of a cell.
        act: activation.
    """

    uses_anchors = True
    sizes: Tensor
    encode: Callable[..., Tensor] = staticmethod(encode_bounded)
    decode: Callable[..., Tensor] = staticmethod(decode_bounded)

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        depth: int,
        anchors: Sequence[Sequence[float]] = (),
        act: str = "hardswish",
    ):
        super().__init__()
        self.strides = list(strides)
        anchors = anchors or [[s, s] for s in strides]
        sizes = torch.tensor(anchors, dtype=torch.float32).view(len(self.strides), -1, 2)
        self.register_buffer("sizes", sizes, persistent=False)
        self.anchors = sizes.shape[1]
        self.classify = nn.ModuleList(tower(c, self.anchors * classes, depth, act, [-2.0]) for c in channels)
        rare = [0.0, 0.0, 0.0, 0.0, -6.0]  # few anchors hold an object
        self.regress = nn.ModuleList(tower(c, self.anchors * 5, depth, act, rare) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        logits = torch.cat([flat(head(x), self.anchors) for head, x in zip(self.classify, maps, strict=True)], 1)
        rest = torch.cat([flat(head(x), self.anchors) for head, x in zip(self.regress, maps, strict=True)], 1)
        priors = grid.priors(
            [(x.shape[2], x.shape[3]) for x in maps], self.strides, list(self.sizes), device=logits.device
        )
        return HeadOutput(logits, rest[..., :4], priors, objectness=rest[..., 4])

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes, and how they are laid out: see `Model.named_rows`."""
        yield from ((tower[-1], NamedRows(groups=self.anchors)) for tower in self.classify)  # type: ignore[index]

    def boxes(self, raw: HeadOutput) -> Tensor:
        """The predicted boxes (B, A, 4), or (P, 4), decoded from `raw`."""
        return self.decode(raw.regression, *self.reference(raw.priors))

    def scores(self, raw: HeadOutput) -> Tensor:
        """Objectness times class scores (B, A, C)."""
        return raw.logits.sigmoid() * raw.objectness.sigmoid()[..., None]  # type: ignore[union-attr]

    def regression_loss(self, raw: HeadOutput, boxes: Tensor) -> Tensor:
        """Squared error of the bounded codes of P predictions from those of target boxes (P, 4): (P,)."""
        target_codes = self.encode(boxes, *self.reference(raw.priors))
        return (self.bounded(raw.regression) - self.bounded(target_codes)).square().sum(-1)

    def bounded(self, codes: Tensor) -> Tensor:
        """Codes (..., 4) as they are decoded: position in the cell and size, each 0..1."""
        return codes.sigmoid()

    def reference(self, priors: grid.Priors) -> tuple[Tensor, ...]:
        """What codes are relative to: centres (A, 2), strides (A,) and anchor sizes (A, 2)."""
        boxes = priors.boxes
        assert boxes is not None  # forward makes priors with boxes
        return priors.centers, priors.strides, boxes[:, 2:] - boxes[:, :2]


@register("head", "grid")
class GridHead(AnchorHead):
    """The classic grid (YOLO v1 to v3): centre inside the cell, size relative to the cell or to an anchor.

    With `reach`, a number for each level, the centre is within that many strides around the cell's (YOLO v4).
    """

    encode = staticmethod(encode_offsets)
    decode = staticmethod(decode_offsets)
    reaches: Tensor

    def __init__(self, *arguments: Any, reach: Sequence[float] = (), **options: Any):
        super().__init__(*arguments, **options)
        rows = zip(self.strides, reach, strict=True) if reach else []
        self.register_buffer("reaches", torch.tensor([*rows], dtype=torch.float32), persistent=False)

    def reference(self, priors: grid.Priors) -> tuple[Tensor, ...]:
        """As for any anchor head; and the reach (A,) if it is not one stride."""
        whole = super().reference(priors)
        if not len(self.reaches):
            return whole
        strides, reaches = self.reaches.T
        return *whole, reaches[(priors.strides[:, None] == strides).int().argmax(1)]

    def bounded(self, codes: Tensor) -> Tensor:
        """Codes (..., 4) as the loss compares them: position in the cell 0..1, size as its logarithm."""
        return torch.cat((codes[..., :2].sigmoid(), codes[..., 2:]), -1)
