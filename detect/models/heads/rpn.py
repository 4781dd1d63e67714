"""The region proposal network (Ren et al., 2015): objectness and deltas of each anchor box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anchors import grid
from anchors.boxes import clip
from anchors.coding import decode_deltas
from anchors.grid import Priors
from anchors.nms import batched_nms
from detect.models.backbones.blocks import Predict, flat
from detect.types import HeadOutput

SCALE, RATIOS = 8, (0.5, 1.0, 2.0)  # anchors of Lin et al. (2017, section 4.1): of 8 strides squared; height / width
BEST = 1000  # proposals of a level that go into NMS
IOU = 0.7  # threshold of NMS
THIN = 1e-3  # pixels: smaller proposals are dropped


def pyramid_sizes(strides: Sequence[int]) -> list[list[float]]:
    """Widths and heights of the paper's anchors, level by level."""
    return [[SCALE * s * r**-0.5, SCALE * s * r**0.5] for s in strides for r in RATIOS]


class RPNHead(nn.Module):
    """forward(maps) -> HeadOutput with logits (B, A, 1) and regression (B, A, 4), R-CNN deltas of the anchor boxes.

    A runs over levels, rows, columns, anchors.

    Args:
        width: channels of the feature maps; one head serves all.
        strides: their strides.
        anchors: widths and heights by level. Empty: the paper's.
        most: proposals of an image after NMS.
        corner: whether anchors lie around the upper left corner of their cell rather than around its middle.
    """

    sizes: Tensor

    def __init__(
        self,
        width: int,
        strides: Sequence[int],
        anchors: Sequence[Sequence[float]] = (),
        most: int = 300,
        corner: bool = False,
    ):
        super().__init__()
        self.strides, self.most, self.corner = list(strides), most, corner
        sizes = torch.tensor(anchors or pyramid_sizes(strides), dtype=torch.float32).view(len(strides), -1, 2)
        self.register_buffer("sizes", sizes, persistent=False)
        self.hidden = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.objectness, self.deltas = (Predict(width, sizes.shape[1] * n, 1) for n in (1, 4))
        for layer in (self.hidden[0], self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput:
        seen, each = [self.hidden(x) for x in maps], self.sizes.shape[1]
        logits, deltas = (torch.cat([flat(say(x), each) for x in seen], 1) for say in (self.objectness, self.deltas))
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        priors = grid.priors(shapes, self.strides, list(self.sizes), device=logits.device)
        return HeadOutput(logits, deltas, self._at_corners(priors, shapes) if self.corner else priors)

    def _at_corners(self, priors: Priors, shapes: Sequence[tuple[int, int]]) -> Priors:
        """The priors around the corners of their cells.

        Cells of a map have the side of the canvas over their number there, rounded down, as torchvision counts: that is
        less than the stride where the map has half a cell more than the canvas.
        """
        assert priors.boxes is not None
        height, width = (n * self.strides[0] for n in shapes[0])
        moves = []
        for (rows, columns), stride in zip(shapes, self.strides, strict=True):
            sides = priors.centers.new_tensor([width // columns, height // rows])
            moves.append((sides / stride).expand(rows * columns * self.sizes.shape[1], 2))
        corners = (priors.centers - priors.strides[:, None] / 2) * torch.cat(moves)
        shift = (corners - priors.centers).repeat(1, 2)
        return priors._replace(centers=corners, boxes=priors.boxes + shift)

    @torch.no_grad()
    def propose(self, raw: HeadOutput, shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[Tensor]:
        """The best proposals of each image, (P, 4) xyxy in pixels by descending score; no gradient flows through them.

        Args:
            raw: what `forward` returned.
            shapes: (h, w) of the feature maps. The BEST of each go into NMS; at most `most` of all come out.
            size: height and width of the canvas.
        """
        assert raw.priors.boxes is not None
        boxes = clip(decode_deltas(raw.regression.float(), raw.priors.boxes), size).nan_to_num()
        counts = [height * width * self.sizes.shape[1] for height, width in shapes]
        parts = raw.logits[..., 0].float().nan_to_num().split(counts, 1)
        tops = [part.topk(min(BEST, part.shape[1])) for part in parts]
        scores = torch.cat([top.values for top in tops], 1)
        starts = [sum(counts[:i]) for i in range(len(counts))]
        places = torch.cat([top.indices + start for top, start in zip(tops, starts, strict=True)], 1)
        rows = zip(boxes, scores, places, strict=True)
        return [suppressed(box[place], score, raw.priors.strides[place], self.most) for box, score, place in rows]


def suppressed(boxes: Tensor, scores: Tensor, levels: Tensor, most: int) -> Tensor:
    """The best of boxes (N, 4) after NMS within each level (N,), at most `most`: (P, 4)."""
    if boxes.is_meta:
        return boxes[:most]  # as many as there may be
    wide = ((boxes[:, 2:] - boxes[:, :2]) >= THIN).all(1)
    boxes, scores, levels = boxes[wide], scores[wide], levels[wide]
    return boxes[batched_nms(boxes, scores, levels, IOU)[:most]]
