"""Faster R-CNN (Ren et al., 2015) on a feature pyramid (Lin et al., 2017): one network proposes and classifies regions.

Axes: B batch, A anchors, P regions, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from anchors.assign import MaxIoU, PaddedTargets, pad_targets
from anchors.coding import encode_deltas
from anchors.sampling import sampled
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.configs.rcnn import FasterRcnnConfig
from detect.models.heads.roi import SIDE, RoIHead
from detect.models.heads.rpn import RPNHead
from detect.models.necks import build_pyramid
from detect.models.region_based import SMOOTH_L1_BETA, Given, PooledModel, RegionOutput, sample_regions
from detect.types import HeadOutput, LossTerm, Target

MATCH = MaxIoU(0.7, 0.3)  # from this overlap on an anchor box is an object's, below that nothing's
ANCHORS, SHARE = 256, 0.5  # sample_regions from an image for the loss of proposals; at most that share hold an object


class FasterRCNN(PooledModel):
    """images (B, 3, H, W) uint8 -> RegionOutput, with the output of the region proposal network for all anchors."""

    config: FasterRcnnConfig

    def __init__(
        self, config: FasterRcnnConfig, metadata: ModelMetadata, backbone: nn.Module, neck: nn.Module, head: RoIHead
    ):
        super().__init__(config, metadata, backbone, neck, head)
        self.rpn = RPNHead(config.width, self.strides, config.anchors, config.regions, config.cells == "corner")

    def propose(
        self, maps: list[Tensor], size: tuple[int, int], given: Given
    ) -> tuple[Sequence[Tensor], HeadOutput | None]:
        """The proposals (P, 4) of each image; if `given` are targets, those sampled to train on."""
        proposed = self.rpn(maps)
        proposals = self.rpn.propose(proposed, [(x.shape[2], x.shape[3]) for x in maps], size)
        targets = [x for x in given or () if isinstance(x, Target)]
        if targets:
            proposals = [sample_regions(box, target) for box, target in zip(proposals, targets, strict=True)]
        return proposals, proposed

    def loss(self, raw: RegionOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Objectness and regression loss of the proposals, then classification and box loss of the regions."""
        assert raw.proposed is not None
        return {**self._proposal_loss(raw.proposed, targets), **super().loss(raw, targets)}

    def _proposal_loss(self, raw: HeadOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Equation 1 of Ren et al. (2015) over sampled anchors; both terms are divided by ANCHORS."""
        pad_boxes = pad_targets([(t.boxes, t.labels, t.crowd) for t in targets])
        truth = PaddedTargets(*(x.to(raw.logits.device, non_blocking=True) for x in pad_boxes))
        index = MATCH(raw.logits, raw.regression, raw.priors, truth).index
        used = sampled(index, ANCHORS, SHARE)
        at = torch.where(used & (index >= 0))
        logits, boxes = raw.logits[..., 0].float(), raw.priors.boxes
        assert boxes is not None
        each = binary_cross_entropy_with_logits(logits, (index >= 0).float(), reduction="none")
        codes = encode_deltas(truth.boxes[at[0], index[at]], boxes[at[1]])
        far = smooth_l1_loss(raw.regression[at].float(), codes, beta=SMOOTH_L1_BETA, reduction="sum")
        count, w = torch.tensor(float(len(targets)), device=logits.device), self.config.loss
        return {
            "objectness": LossTerm(w.objectness * (each * used).sum() / ANCHORS, count),
            "regression": LossTerm(w.regression * far / ANCHORS, count),
        }


def build_faster_rcnn(
    config: FasterRcnnConfig, metadata: ModelMetadata, kind: type[FasterRCNN] = FasterRCNN
) -> FasterRCNN:
    """Faster R-CNN, or a `kind` of it, with the parts that `config` names.

    Raises:
        UserError: an unknown name, a level that the backbone lacks, or a wrong number of anchors.
    """
    backbone, neck = build_pyramid(config)
    count = len(config.levels) * config.anchors_per_level
    if len(config.anchors) != count:
        raise UserError(
            f"model {config.name} has {len(config.levels)} levels of {config.anchors_per_level} anchors, but "
            f"{len(config.anchors)} are listed; compute them with detect anchors --k {count}, or leave them out"
        )
    head = RoIHead(config.width * SIDE**2, len(metadata.names), config.hidden)
    return kind(config, metadata, backbone, neck, head)
