"""What the R-CNN family shares: regions of a picture are looked at one by one, sampled in training, and decoded.

Axes: B batch, P regions (padded over the batch), C classes, N objects of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
from detect.models.heads.roi import RoIHead, pooled
from detect.models.yolo import choose
from detect.types import Detections, HeadOutput, LossTerm, NamedRows, Postprocess, Target

OWNER = MaxIoU(0.5, 0.5, lowest=False)  # a region is of the object that it overlaps by half or more
REGIONS, SHARE = 128, 0.25  # drawn from an image in training; of them at most that share show an object
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the deltas: one over their usual deviations (Girshick, 2015)
BEND = 1 / 9  # where the loss of a delta turns from square to linear
Given = (
    Sequence[Target] | Sequence[Tensor] | None
)  # truth to train on; or proposals (P, 4) of each image, all looked at
THIN = 1e-2  # pixels: a box without a side is none


class Regions(NamedTuple):
    """What is said of regions: boxes (B, P, 4) xyxy px, of which `valid` (B, P) are there; logits (B, P, C + 1), the
    last for no object; deltas (B, P, C, 4), a box a class; limit (4,), the canvas: width, height, width, height.

    `proposed` is what the region proposal network said, where there is one.
    """

    boxes: Tensor
    valid: Tensor
    logits: Tensor
    deltas: Tensor
    limit: Tensor
    proposed: HeadOutput | None = None


class RegionModel(Model):
    """Base of the family: the loss of regions, and what they amount to.

    forward(images, given): with `given` truth (with its proposals) some regions are drawn to train on; `given` the
    proposals (P, 4) of each image, which may be none, all of them are looked at.
    """

    fixed_graph = False  # which regions are looked at depends on the image
    config: RcnnConfig | PooledConfig
    head: RoIHead
    class_weights: Tensor

    def __init__(self, config: RcnnConfig | PooledConfig, metadata: ModelMetadata):
        super().__init__(config, metadata)
        weights = torch.tensor([*(config.class_weights or [1.0] * len(metadata.names)), 1.0])
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, images: Tensor, given: Given = None) -> Regions:
        """What is said of regions of images (B, 3, H, W) uint8."""
        return self.forward_head(self.features(images, given), given)

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """Those of the head."""
        return self.head.named_rows()

    def loss(self, raw: Regions, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Cross-entropy of all regions, smooth L1 of the deltas of those that show an object (Girshick, 2015).

        Both are divided by REGIONS and the number of images, however many regions an image has.
        """
        index = torch.stack([owners(box, target) for box, target in zip(raw.boxes, targets, strict=True)])
        used = raw.valid & (index != IGNORE)
        shown = used & (index >= 0)
        wanted, labels = (_of_objects(x, index, targets) for x in ("boxes", "labels"))
        labels = torch.where(shown, labels, raw.logits.shape[-1] - 1)
        each = cross_entropy(raw.logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        classes = (each * self.class_weights[labels.flatten()] * used.flatten()).sum()
        codes = encode_deltas(wanted[shown], raw.boxes[shown], WEIGHTS)
        rows = torch.arange(len(codes), device=codes.device)
        mine = raw.deltas[shown][rows, labels[shown]].float()
        far = smooth_l1_loss(mine, codes, beta=BEND, reduction="sum")
        count, w = torch.tensor(float(len(targets)), device=index.device), self.config.loss
        return {
            "classes": LossTerm(w.classes * classes / REGIONS, count),
            "box": LossTerm(w.box * far / REGIONS, count),
        }

    def candidates(self, raw: Regions) -> tuple[Tensor, Tensor]:
        """The box of each class of each region (B, P * C, 4), within the canvas, and its scores (B, P * C, C)."""
        boxes = decode_deltas(raw.deltas.float(), raw.boxes[:, :, None], WEIGHTS)
        boxes = boxes.clamp_min(0).minimum(raw.limit)
        there = ((boxes[..., 2:] - boxes[..., :2]) >= THIN).all(-1) & raw.valid[..., None]
        scores = raw.logits.float().softmax(-1)[..., :-1] * there
        return boxes.flatten(1, 2), scores.diag_embed().flatten(1, 2)  # a box speaks for its own class alone

    def postprocess(self, raw: Regions, keep: Postprocess) -> list[Detections]:
        """The answer for each image, in canvas pixels, by descending score."""
        boxes, scores = (x.detach() for x in self.candidates(raw))
        return [choose(b, s, keep) for b, s in zip(boxes, scores, strict=True)]


class PooledModel(RegionModel):
    """Base of those that run the backbone once a picture and cut regions out of its maps."""

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
        """The maps of the neck."""
        return self.neck(self.backbone(self.preprocess(images)))

    def forward_head(self, features: list[Tensor], given: Given = None) -> Regions:
        """The regions, from the maps of the neck."""
        size = features[0].shape[2] * self.strides[0], features[0].shape[3] * self.strides[0]
        proposals, proposed = self.propose(features, size, given)
        boxes, valid = padded(proposals)
        seen = pooled(features, self.strides, boxes, self.config.pooling)
        logits, deltas = self.head(seen.flatten(2))
        return Regions(boxes, valid, logits, deltas, boxes.new_tensor([*size[::-1]] * 2), proposed)

    def propose(
        self, maps: list[Tensor], size: tuple[int, int], given: Given
    ) -> tuple[Sequence[Tensor], HeadOutput | None]:
        """The regions (P, 4) of each image of `size` (h, w) to look at, and what was said of where they may be."""
        return offered(given, len(maps[0]), size, maps[0].device), None


def offered(given: Given, count: int, size: tuple[int, int], device: torch.device) -> list[Tensor]:
    """The regions (P, 4) of each of `count` images of `size` (h, w) that were `given`.

    Of truth those to train on are drawn; without anything each image has one region, the whole of it.
    """
    if given is None:
        whole = torch.tensor([[0.0, 0.0, size[1], size[0]]], device=device)
        return [whole] * count
    found = [x.proposals if isinstance(x, Target) else x for x in given]
    boxes = [torch.zeros(0, 4, device=device) if x is None else x.to(device) for x in found]
    return [drawn(box, x) if isinstance(x, Target) else box for box, x in zip(boxes, given, strict=True)]


def owners(boxes: Tensor, target: Target) -> Tensor:
    """The object (P,) that each of boxes (P, 4) answers for, -1 none, -2 ignored: it lies in a crowd region."""
    priors = Priors((boxes[:, :2] + boxes[:, 2:]) / 2, boxes.new_ones(len(boxes)), boxes)
    truth = PaddedTargets(*(x.to(boxes.device) for x in pad_targets([(target.boxes, target.labels, target.crowd)])))
    return OWNER(boxes.new_zeros(1, len(boxes), 1), boxes[None], priors, truth).index[0]


def _of_objects(field: str, index: Tensor, targets: Sequence[Target]) -> Tensor:
    """That field of the object that each region of index (B, P) answers for; anything where there is none."""
    rows = pad_sequence([getattr(t, field) for t in targets], batch_first=True).to(index.device)
    rows = torch.cat((rows, rows.new_zeros(len(rows), 1, *rows.shape[2:])), 1)  # one at least
    image = torch.arange(len(index), device=index.device)[:, None]
    return rows[image, index.clamp(min=0)]


def drawn(proposals: Tensor, target: Target) -> Tensor:
    """The regions (at most REGIONS, 4) that an image trains on: of its proposals (P, 4) and its objects."""
    boxes = torch.cat((proposals, target.boxes[~target.crowd].to(proposals)))
    return boxes[draw(boxes, torch.ones_like(boxes[:, 0], dtype=torch.bool), target)]


def draw(boxes: Tensor, valid: Tensor, target: Target) -> Tensor:
    """A mask of those of the `valid` (P,) boxes (P, 4) that an image trains on: REGIONS, SHARE with an object."""
    return sampled(torch.where(valid, owners(boxes, target), IGNORE)[None], REGIONS, SHARE)[0]


def padded(boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The boxes (P, 4) of each image as one (B, P, 4), and which of them are there (B, P)."""
    counts = torch.tensor([len(box) for box in boxes], device=boxes[0].device)
    joined = pad_sequence(list(boxes), batch_first=True)
    return joined, torch.arange(joined.shape[1], device=counts.device) < counts[:, None]
