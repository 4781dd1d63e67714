"""R-CNN (Girshick et al., 2014): each proposal is cropped, scaled to one size and classified alone.

Axes: B batch, R regions of all images, P regions of one, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from anchors.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from detect.models.backbones import build_backbone
from detect.models.base import ModelMetadata
from detect.models.configs.rcnn import RcnnConfig
from detect.models.heads.roi import RoIHead
from detect.models.region_based import Given, RegionModel, RegionOutput, given_regions, sample_mask
from detect.types import Target

SLOTS = 300  # regions of an image, the best if there are more: features of one shape can be cached
CONTEXT = 227 / (227 - 32)  # a crop is this much larger than its region: 16 of 227 pixels on every side
TOGETHER = 256  # crops that go through the network at once


class RCNN(RegionModel):
    """images (B, 3, H, W) uint8 and the proposals of each -> RegionOutput.

    Without proposals the whole image is the only region. The backbone sees crops of `config.window` pixels; the head
    reads the mean of its last feature map. With a frozen backbone these features can be cached, so that each crop is
    computed once (section 2.3 of the paper): `features` are vectors (B, SLOTS, D), boxes with 1 for a valid one
    (B, SLOTS, 5), and limits (B, 4) of the canvas.
    """

    config: RcnnConfig

    def __init__(self, config: RcnnConfig, metadata: ModelMetadata, backbone: nn.Module, head: RoIHead):
        super().__init__(config, metadata)
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor, given: Given = None) -> RegionOutput:
        """The output for regions of images (B, 3, H, W) uint8."""
        return self.forward_head(self.features(images, given))

    def backbone_stages(self) -> list[str]:
        """The stages of the backbone."""
        return [f"backbone.stages.{i}" for i in range(len(self.backbone.stages))]  # type: ignore[arg-type]

    def features(self, images: Tensor, given: Given = None) -> list[Tensor]:
        """Vectors, boxes and limits of the regions that are given or sampled."""
        height, width = images.shape[2:]
        boxes = [box[:SLOTS] for box in given_regions(given, len(images), (height, width), images.device)]
        crops = warped(self.preprocess(images), boxes, self.config.window)
        seen = torch.cat([self.backbone(part)[-1].float().mean((2, 3)) for part in crops.split(TOGETHER)])
        counts = [len(box) for box in boxes]
        vectors = _slots(seen[: sum(counts)].split(counts))
        places = _slots([pad(box, (0, 1), value=1.0) for box in boxes])
        return [vectors, places, places.new_tensor([width, height] * 2).expand(len(images), 4)]

    def forward_head(self, features: list[Tensor], given: Given = None) -> RegionOutput:
        """The output for regions, from the features of crops; if `given` are targets, some are sampled."""
        vectors, places, limits = features
        boxes, valid = places[..., :4], places[..., 4] > 0
        targets = [x for x in given or () if isinstance(x, Target)]
        if targets:
            valid = torch.stack([sample_mask(*row) for row in zip(boxes, valid, targets, strict=True)])
        logits, deltas = self.head(vectors)
        return RegionOutput(boxes, valid, logits, deltas, limits[0])


def warped(numbers: Tensor, boxes: Sequence[Tensor], side: int) -> Tensor:
    """The regions of images as crops of one size, (R, 3, side, side).

    Outside of an image crops have its mean. There are at least two crops, of nothing, for the sake of batch statistics.

    Args:
        numbers: preprocessed images (B, 3, H, W).
        boxes: the regions (P, 4) of each image, which get some context around them.
        side: side of the crops in pixels.
    """
    from torchvision.ops import roi_align  # late: it takes half a second

    image = torch.cat([box.new_full((len(box), 1), i) for i, box in enumerate(boxes)])
    wide = xyxy_to_cxcywh(torch.cat(list(boxes))) * numbers.new_tensor([1, 1, CONTEXT, CONTEXT], dtype=torch.float32)
    rois = torch.cat((image, cxcywh_to_xyxy(wide)), 1)
    rois = pad(rois, (0, 0, 0, max(0, 2 - len(rois))))
    mean = numbers.float().mean((2, 3), keepdim=True)
    crops = roi_align(numbers.float() - mean, rois, side, 1.0, 2, aligned=True) + mean[rois[:, 0].long()]
    return crops.to(dtype=numbers.dtype, memory_format=torch.channels_last)


def _slots(rows: Sequence[Tensor]) -> Tensor:
    """Rows (P, N) of each image as one (B, SLOTS, N), padded with zeros."""
    joined = pad_sequence(list(rows), batch_first=True)
    return pad(joined, (0, 0, 0, SLOTS - joined.shape[1]))


def build_rcnn(config: RcnnConfig, metadata: ModelMetadata) -> RCNN:
    """R-CNN with the parts that `config` names.

    Raises:
        UserError: an unknown name, or a level that the backbone lacks.
    """
    backbone = build_backbone(config.backbone, config.in_channels, config.levels)
    return RCNN(config, metadata, backbone, RoIHead(backbone.channels[-1], len(metadata.names), config.hidden))
