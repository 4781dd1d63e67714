"""Mask R-CNN (He et al., 2017): Faster R-CNN, and a small network that finds the mask of each object in its box.

Axes: B batch, P regions, R regions of all images, C classes, S side of a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.box_masks import BoxMasks, region_masks
from detect.models.backbones.blocks import Predict
from detect.models.base import ModelMetadata
from detect.models.configs.rcnn import MaskRcnnConfig
from detect.models.faster_rcnn import FasterRCNN
from detect.models.heads.roi import RoIHead
from detect.models.region_based import Given, RegionOutput, matched_objects, pad_boxes
from detect.types import Detections, LossTerm, NamedRows, Postprocess, Target

POOLED = 14  # cells of a region's features in each direction; its mask has twice as many
CONVOLUTIONS = 4


class MaskHead(nn.Module):
    """forward(features (R, width, POOLED, POOLED)) -> logits (R, C, 2 POOLED, 2 POOLED), a mask for each class.

    Four 3x3 convolutions, a transposed convolution that doubles the sides, and a 1x1 convolution.
    """

    def __init__(self, width: int, hidden: int, classes: int):
        super().__init__()
        widths = [width, *[hidden] * (CONVOLUTIONS - 1)]
        self.convolutions = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(inputs, hidden, 3, padding=1), nn.ReLU()) for inputs in widths)
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(hidden, hidden, 2, 2), nn.ReLU())
        self.classify = Predict(hidden, classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, features: Tensor) -> Tensor:
        return self.classify(self.up(self.convolutions(features)))


class MaskRCNN(FasterRCNN):
    """images (B, 3, H, W) uint8 -> RegionOutput with the feature maps, from which masks are made for few boxes.

    In training these are the regions with an object, in prediction the detections that are kept, in their final boxes.
    """

    config: MaskRcnnConfig

    def __init__(
        self, config: MaskRcnnConfig, metadata: ModelMetadata, backbone: nn.Module, neck: nn.Module, head: RoIHead
    ):
        super().__init__(config, metadata, backbone, neck, head)
        self.mask_head = MaskHead(config.width, config.mask_width, len(metadata.names))

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """Those of the two heads."""
        yield from super().named_rows()
        yield self.mask_head.classify, NamedRows()

    def forward_head(self, features: list[Tensor], given: Given = None) -> RegionOutput:
        """The output for regions, with the feature maps of the neck that it was made from."""
        raw = super().forward_head(features, given)
        if raw.boxes.is_meta:  # shapes alone are asked for: those of the masks, too, as many as there may be
            self.mask_head(self.pool(features, raw.boxes, POOLED).flatten(0, 1))
        return raw._replace(maps=features)

    def loss(self, raw: RegionOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """The loss of Faster R-CNN, and of the masks of regions with an object: a mean over the regions of an image.

        Args:
            raw: what `forward` returned.
            targets: the target of each image, with its `masks`.
        """
        terms = super().loss(raw, targets)
        found = [
            matched_objects(box, target).where(valid, -1)
            for box, valid, target in zip(raw.boxes, raw.valid, targets, strict=True)
        ]
        regions = [box[index >= 0] for box, index in zip(raw.boxes, found, strict=True)]
        objects = [index[index >= 0].cpu() for index in found]
        rows = list(zip(targets, objects, strict=True))
        labels, boxes = (torch.cat([getattr(t, name)[i] for t, i in rows]) for name in ("labels", "boxes"))
        masks = torch.cat([_masks(target)[index] for target, index in rows])
        labels, boxes, masks = (x.to(raw.boxes.device, non_blocking=True) for x in (labels, boxes, masks))
        logits = self._logits(raw, regions, labels)
        wanted = region_masks(masks, boxes, torch.cat(regions), logits.shape[-1])
        losses = binary_cross_entropy_with_logits(logits.float(), wanted.float(), reduction="none").mean((1, 2))
        share = torch.cat([losses.new_full((len(one),), 1 / max(1, len(one))) for one in regions])
        terms["mask"] = LossTerm(self.config.loss.mask * (losses * share).sum(), terms["box"].count)
        return terms

    def postprocess(self, raw: RegionOutput, keep: Postprocess) -> list[Detections]:
        """The detections of each image after NMS, with their masks."""
        found = super().postprocess(raw, keep)
        boxes = [one.boxes.to(raw.boxes) for one in found]
        logits = self._logits(raw, boxes, torch.cat([one.labels for one in found])).detach()
        parts = logits.float().sigmoid().split([len(one) for one in found])
        return [replace(one, masks=BoxMasks(part, box)) for one, part, box in zip(found, parts, boxes, strict=True)]

    def _logits(self, raw: RegionOutput, boxes: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The mask (R, S, S) of the class `labels` (R,) in each of the `boxes` (P, 4) of all images, end to end."""
        assert raw.maps is not None
        padded, valid = pad_boxes(boxes)
        masks = self.mask_head(self.pool(raw.maps, padded, POOLED)[valid])
        return masks[torch.arange(len(masks), device=masks.device), labels.to(masks.device)]


def _masks(target: Target) -> Tensor:
    assert target.masks is not None
    return target.masks
