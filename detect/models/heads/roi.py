"""The head of regions: features pooled from the feature maps at one size, dense layers, classes and deltas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anchors.boxes import area
from detect.types import NamedRows

SIDE = 7  # cells of a region in each direction
SAMPLES = 2  # points that a cell averages, in each direction
CANONICAL, LEVEL = 224, 4  # a region of that side is pooled from the map of stride 2 ** 4


class Dense(nn.Linear):
    """A dense layer in the type of its weights whatever the autocast: bfloat16 is too coarse for the edges of boxes."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.amp.is_autocast_available(x.device.type):  # the meta device
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class RoIHead(nn.Module):
    """forward(features (B, P, D)) -> logits (B, P, C + 1), the last for background, and deltas (B, P, C, 4).

    Args:
        width: D.
        classes: number of classes; each has its own deltas.
        hidden: widths of the dense layers before (Fast R-CNN has two; Girshick, 2015).
    """

    def __init__(self, width: int, classes: int, hidden: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for wide in hidden:
            layers += [nn.Linear(width, wide), nn.ReLU()]
            width = wide
        self.hidden = nn.Sequential(*layers)
        self.classify, self.deltas = Dense(width, classes + 1), Dense(width, 4 * classes)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.classify, self.deltas):
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.hidden(features)
        return self.classify(seen), self.deltas(seen).unflatten(-1, (-1, 4))

    def named_rows(self) -> Iterator[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes, and how they are laid out: see `Model.named_rows`."""
        yield self.classify, NamedRows()
        yield self.deltas, NamedRows(each=4)


def pooled(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    kind: str = "align",
    corner: bool = False,
    side: int = SIDE,
) -> Tensor:
    """The features of regions, (B, P, C, side, side) in float32.

    Args:
        maps: feature maps, finest first. strides: their strides. boxes: regions (B, P, 4) in canvas pixels; each is
        pooled from the map that suits its size (see `levels`). kind: "align" averages points between the cells (He et
        al., 2017), "max" takes the largest cell (Girshick, 2015). corner: whether the value of a cell lies at its upper
        left corner rather than in its middle. side: cells of a region in each direction.
    """
    from torchvision import ops  # late: it takes half a second

    count, rows = boxes.shape[1], boxes.flatten(0, 1).float()
    image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(count)
    rois, level = torch.cat((image[:, None].to(rows.dtype), rows), 1), levels(rows, strides)
    out = rows.new_zeros(len(rows), maps[0].shape[1], side, side)
    for i, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        at = torch.arange(len(rows), device=rows.device) if rows.is_meta else torch.where(level == i)[0]
        given: tuple[Any, ...] = (x.float(), rois[at], side, 1 / stride)
        part = ops.roi_align(*given, SAMPLES, aligned=not corner) if kind == "align" else ops.roi_pool(*given)
        out = out.index_put((at,), part)
    return out.unflatten(0, (-1, count)) if count else out.view(len(boxes), 0, *out.shape[1:])


def levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """The index (N,) of the map that each of boxes (N, 4) is pooled from (Lin et al., 2017, equation 1)."""
    levels = torch.floor(LEVEL + torch.log2(area(boxes).sqrt() / CANONICAL) + 1e-6)
    there = torch.tensor([stride.bit_length() - 1 for stride in strides], dtype=levels.dtype, device=boxes.device)
    return torch.bucketize(levels, there).clamp(max=len(strides) - 1)
