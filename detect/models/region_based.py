"""The R-CNN family: regions of an image are sampled in training, classified one by one, and their boxes refined.

Axes: B batch, P regions (padded over the batch), C classes, N objects of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torch.nn.utils.rnn import pad_sequence

from anchors.assign import IGNORE, MaxIoU, PaddedTargets, pad_targets
from anchors.coding import decode_deltas, encode_deltas
from anchors.grid import Priors
from anchors.sampling import sampled
from detect.models.base import Model, ModelMetadata
from detect.models.configs.rcnn import PooledConfig, RcnnConfig
from detect.models.heads.roi import SIDE, RoIHead, pooled
from detect.models.losses.federated import complete_at, without_unknown
from detect.models.yolo import select_detections
from detect.types import Detections, HeadOutput, LossTerm, NamedRows, Postprocess, Target

REGION_MATCHER = MaxIoU(0.5, 0.5, lowest=False)  # a region is assigned to an object from this IoU on
REGIONS, SHARE = 128, 0.25  # sampled from an image in training; at most that share of them with an object
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the deltas: one over their usual deviations (Girshick, 2015)
SMOOTH_L1_BETA = 1 / 9  # of the loss of deltas: above it the loss is linear
Given = Sequence[Target] | Sequence[Tensor] | None  # targets to train on, or the proposals (P, 4) of each image
MIN_SIDE = 1e-2  # pixels: smaller boxes are dropped


class RegionOutput(NamedTuple):
    """The output for regions.

    Attributes:
        boxes: the regions (B, P, 4) xyxy in canvas pixels.
        valid: (B, P), false for padding.
        logits: (B, P, C + 1), the last for background.
        deltas: (B, P, C, 4), a box for each class.
        limit: (4,) canvas size as width, height, width, height.
        proposed: the output of the region proposal network, if there is one.
        maps: the feature maps, where a second stage looks at the detected boxes.
    """

    boxes: Tensor
    valid: Tensor
    logits: Tensor
    deltas: Tensor
    limit: Tensor
    proposed: HeadOutput | None = None
    maps: list[Tensor] | None = None


class RegionModel(Model):
    """Base of the family: the loss of regions, and their postprocessing.

    forward(images, given): if `given` are targets (with their proposals), some regions are sampled to train on; if they
    are the proposals (P, 4) of each image, all of them are used.
    """

    fixed_graph = False  # which regions are looked at depends on the image
    config: RcnnConfig | PooledConfig
    head: RoIHead
    class_weights: Tensor

    def __init__(self, config: RcnnConfig | PooledConfig, metadata: ModelMetadata):
        super().__init__(config, metadata)
        weights = torch.tensor([*(config.class_weights or [1.0] * len(metadata.names)), 1.0])
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, images: Tensor, given: Given = None) -> RegionOutput:
        """The output for regions of images (B, 3, H, W) uint8."""
        return self.forward_head(self.features(images, given), given)

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """Those of the head."""
        return self.head.named_rows()

    def loss(self, raw: RegionOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Cross-entropy of all regions, smooth L1 of the deltas of regions with an object (Girshick, 2015).

        Both are divided by REGIONS and the number of images, however many regions an image has.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.
        """
        index = torch.stack([matched_objects(box, target) for box, target in zip(raw.boxes, targets, strict=True)])
        counted = raw.valid & (index != IGNORE)
        positive = counted & (index >= 0)
        target_boxes, labels = (_of_objects(x, index, targets) for x in ("boxes", "labels"))
        labels = torch.where(positive, labels, raw.logits.shape[-1] - 1)
        complete = complete_at((raw.boxes[..., :2] + raw.boxes[..., 2:]) / 2, targets)
        logits = without_unknown(raw.logits.float(), labels, complete)
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        classes = (losses * self.class_weights[labels.flatten()] * counted.flatten()).sum()
        codes = encode_deltas(target_boxes[positive], raw.boxes[positive], WEIGHTS)
        rows = torch.arange(len(codes), device=codes.device)
        predicted_deltas = raw.deltas[positive][rows, labels[positive]].float()
        box_loss = smooth_l1_loss(predicted_deltas, codes, beta=SMOOTH_L1_BETA, reduction="sum")
        count, w = torch.tensor(float(len(targets)), device=index.device), self.config.loss
        return {
            "classes": LossTerm(w.classes * classes / REGIONS, count),
            "box": LossTerm(w.box * box_loss / REGIONS, count),
        }

    def candidates(self, raw: RegionOutput) -> tuple[Tensor, Tensor]:
        """The box of each class of each region (B, P * C, 4), clipped to the canvas, and scores (B, P * C, C)."""
        boxes = decode_deltas(raw.deltas.float(), raw.boxes[:, :, None], WEIGHTS)
        boxes = boxes.clamp_min(0).minimum(raw.limit)
        there = ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIDE).all(-1) & raw.valid[..., None]
        scores = raw.logits.float().softmax(-1)[..., :-1] * there
        return boxes.flatten(1, 2), scores.diag_embed().flatten(1, 2)  # a box speaks for its own class alone

    def postprocess(self, raw: RegionOutput, keep: Postprocess) -> list[Detections]:
        """The detections of each image after NMS, in canvas pixels, by descending score."""
        boxes, scores = (x.detach() for x in self.candidates(raw))
        return [select_detections(b, s, keep) for b, s in zip(boxes, scores, strict=True)]


class PooledModel(RegionModel):
    """Base of models that run the backbone once for an image and pool regions from its feature maps."""

    config: PooledConfig

    def __init__(
        self, config: PooledConfig, metadata: ModelMetadata, backbone: nn.Module, neck: nn.Module, head: RoIHead
    ):
        super().__init__(config, metadata)
        self.backbone, self.neck, self.head = backbone, neck, head
        self.strides: list[int] = neck.strides  # type: ignore[assignment]

    def backbone_stages(self) -> list[str]:
        """The stages of the backbone, then the neck."""
        return [*(f"backbone.stages.{i}" for i in range(len(self.backbone.stages))), "neck"]  # type: ignore[arg-type]

    def features(self, images: Tensor, given: Given = None) -> list[Tensor]:
        """The feature maps of the neck."""
        return self.neck(self.backbone(self.preprocess(images)))

    def forward_head(self, features: list[Tensor], given: Given = None) -> RegionOutput:
        """The output for regions, from the feature maps of the neck."""
        size = features[0].shape[2] * self.strides[0], features[0].shape[3] * self.strides[0]
        proposals, proposed = self.propose(features, size, given)
        boxes, valid = pad_boxes(proposals)
        logits, deltas = self.head(self.pool(features, boxes).flatten(2))
        return RegionOutput(boxes, valid, logits, deltas, boxes.new_tensor([*size[::-1]] * 2), proposed)

    def pool(self, features: list[Tensor], boxes: Tensor, side: int = SIDE) -> Tensor:
        """The features (B, P, C, side, side) of regions (B, P, 4), from the feature maps of the neck."""
        without: Any = getattr(self.neck, "subsampled", 0)  # maps that are only subsampled from another
        own = len(self.strides) - without
        kind, corner = self.config.pooling, self.config.cells == "corner"
        return pooled(features[:own], self.strides[:own], boxes, kind, corner, side)

    def propose(
        self, maps: list[Tensor], size: tuple[int, int], given: Given
    ) -> tuple[Sequence[Tensor], HeadOutput | None]:
        """The regions (P, 4) of each image of `size` (h, w), and the output of the region proposal network."""
        return given_regions(given, len(maps[0]), size, maps[0].device), None


def given_regions(given: Given, count: int, size: tuple[int, int], device: torch.device) -> list[Tensor]:
    """The regions (P, 4) of each image.

    Args:
        given: targets, of whose proposals some are sampled; proposals; or None, for the whole image as the only region.
        count: number of images.
        size: height and width of the canvas.
        device: where the regions are put.
    """
    if given is None:
        whole = torch.tensor([[0.0, 0.0, size[1], size[0]]], device=device)
        return [whole] * count
    found = [x.proposals if isinstance(x, Target) else x for x in given]
    boxes = [torch.zeros(0, 4, device=device) if x is None else x.to(device) for x in found]
    return [sample_regions(box, x) if isinstance(x, Target) else box for box, x in zip(boxes, given, strict=True)]


def matched_objects(boxes: Tensor, target: Target) -> Tensor:
    """The object (P,) that each of boxes (P, 4) is assigned to, -1 none, -2 ignored: it lies in a crowd region."""
    priors = Priors((boxes[:, :2] + boxes[:, 2:]) / 2, boxes.new_ones(len(boxes)), boxes)
    padded = PaddedTargets(*(x.to(boxes.device) for x in pad_targets([(target.boxes, target.labels, target.crowd)])))
    return REGION_MATCHER(boxes.new_zeros(1, len(boxes), 1), boxes[None], priors, padded).index[0]


def _of_objects(field: str, index: Tensor, targets: Sequence[Target]) -> Tensor:
    """A field of the object that each region of index (B, P) is assigned to; any value where there is none."""
    rows = pad_sequence([getattr(t, field) for t in targets], batch_first=True).to(index.device)
    rows = torch.cat((rows, rows.new_zeros(len(rows), 1, *rows.shape[2:])), 1)  # one at least
    image = torch.arange(len(index), device=index.device)[:, None]
    return rows[image, index.clamp(min=0)]


def sample_regions(proposals: Tensor, target: Target) -> Tensor:
    """The regions (at most REGIONS, 4) to train on, sampled from the proposals (P, 4) and objects of an image."""
    boxes = torch.cat((proposals, target.boxes[~target.crowd].to(proposals)))
    return boxes[sample_mask(boxes, torch.ones_like(boxes[:, 0], dtype=torch.bool), target)]


def sample_mask(boxes: Tensor, valid: Tensor, target: Target) -> Tensor:
    """A mask of the `valid` (P,) boxes (P, 4) to train on: REGIONS of them, at most SHARE with an object."""
    return sampled(torch.where(valid, matched_objects(boxes, target), IGNORE)[None], REGIONS, SHARE)[0]


def pad_boxes(boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The boxes (P, 4) of each image as one (B, P, 4), and a mask (B, P) that is false for padding."""
    counts = torch.tensor([len(box) for box in boxes], device=boxes[0].device)
    joined = pad_sequence(list(boxes), batch_first=True)
    return joined, torch.arange(joined.shape[1], device=counts.device) < counts[:, None]
