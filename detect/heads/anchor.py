"""Heads over anchor boxes: several shapes a cell, each with objectness, box and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, smooth_l1_loss

from anchors import grid
from anchors.coding import decode_bounded, decode_yolo, encode_bounded, encode_yolo
from detect.heads.tower import flat, tower
from detect.types import Raw


class AnchorHead(nn.Module):
    """forward(maps) -> Raw with logits (B, A, C), regression (B, A, 4), objectness (B, A).

    A runs over levels, rows, columns, anchors. Boxes are coded in the bounded form: at most four times the anchor.
    """

    uses_anchors = True
    encode: Callable[..., Tensor] = staticmethod(encode_bounded)
    decode: Callable[..., Tensor] = staticmethod(decode_bounded)

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        depth: int,
        anchors: Sequence[Sequence[float]] = (),
        act: str = "relu",
    ):
        super().__init__()
        self.strides = list(strides)
        sizes = torch.tensor(anchors, dtype=torch.float32).view(len(self.strides), -1, 2)
        self.register_buffer("sizes", sizes, persistent=False)
        self.anchors = sizes.shape[1]
        self.classify = nn.ModuleList(tower(c, self.anchors * classes, depth, act, bias=-2.0) for c in channels)
        self.regress = nn.ModuleList(tower(c, self.anchors * 5, depth, act, bias=0.0) for c in channels)
        for predict in (head[-1] for head in self.regress):
            predict.bias.data.view(-1, 5)[:, 4] = -4.6  # few anchors hold an object

    def forward(self, maps: Sequence[Tensor]) -> Raw:
        logits = torch.cat([flat(head(x), self.anchors) for head, x in zip(self.classify, maps, strict=True)], 1)
        rest = torch.cat([flat(head(x), self.anchors) for head, x in zip(self.regress, maps, strict=True)], 1).float()
        priors = grid.priors([x.shape[-2:] for x in maps], self.strides, list(self.sizes), device=logits.device)
        return Raw(logits.float(), rest[..., :4], priors, objectness=rest[..., 4])

    def boxes(self, raw: Raw) -> Tensor:
        """The boxes (B, A, 4) that `raw` stands for."""
        return self.decode(raw.regression, raw.priors)

    def scores(self, raw: Raw) -> Tensor:
        """Objectness times class scores (B, A, C)."""
        return raw.logits.sigmoid() * raw.objectness.sigmoid()[..., None]  # type: ignore[union-attr]

    def code_loss(self, raw: Raw, at: tuple[Tensor, Tensor], boxes: Tensor) -> Tensor:
        """Smooth L1 between the codes predicted at (image, prior) and those of `boxes` (P, 4): (P,)."""
        return smooth_l1_loss(raw.regression[at], self.encode(boxes, raw.priors.at(at[1])), reduction="none").mean(-1)


class GridHead(AnchorHead):
    """The classic grid (YOLO v1 to v3): centre inside the cell, size relative to the cell or to an anchor.

    Without anchors there is one prediction a cell and its reference size is the cell.
    """

    uses_anchors = False
    encode = staticmethod(encode_yolo)
    decode = staticmethod(decode_yolo)

    def __init__(self, channels, strides, classes, depth, anchors=(), act="relu"):
        super().__init__(channels, strides, classes, depth, anchors or [[s, s] for s in strides], act)

    def code_loss(self, raw: Raw, at: tuple[Tensor, Tensor], boxes: Tensor) -> Tensor:
        """Squared error of the codes, as in the classic YOLO: (P,)."""
        return mse_loss(raw.regression[at], self.encode(boxes, raw.priors.at(at[1])), reduction="none").mean(-1)
