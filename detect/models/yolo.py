"""Grid detectors: backbone, neck, a dense head, and an assigner that matches predictions to targets.

Axes: B batch, A predictions, C classes, P predictions that are assigned to an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from anchors.assign import Assigner, Assignment, MaxIoU, PaddedTargets, pad_targets
from anchors.assign.oriented import oriented_task_aligned
from anchors.boxes import iou_aligned
from anchors.nms import batched_nms, soft_nms
from anchors.oriented import canonical, oriented_bounds
from anchors.oriented_nms import oriented_nms
from detect.errors import UserError
from detect.limits import CANDIDATES, PER_DETECTION
from detect.models.backbones.base import Staged
from detect.models.base import ModelMetadata, PyramidModel
from detect.models.configs.base import ModelConfig
from detect.models.configs.yolo import AnchorFreeConfig, YoloConfig, YoloKeypointsConfig, YoloOrientedConfig
from detect.models.heads.keypoints import KeypointHead
from detect.models.heads.oriented import OrientedHead
from detect.models.heads.point import PointHead
from detect.models.losses.classes import cross_entropy, soft_targets
from detect.models.losses.federated import complete_at, known
from detect.models.necks import build_pyramid
from detect.registry import REGISTRIES
from detect.types import Detections, HeadOutput, LossTerm, Postprocess, Target


class Yolo(PyramidModel):
    """images (B, 3, H, W) uint8 -> HeadOutput, one prediction for each prior.

    `box_field` is the field of targets that its boxes are compared with.
    """

    box_field = "boxes"

    def __init__(
        self,
        config: ModelConfig,
        metadata: ModelMetadata,
        backbone: Staged,
        neck: nn.Module,
        head: Any,
        assigner: Assigner,
    ):
        super().__init__(config, metadata, backbone, neck, head)
        self.assigner = assigner
        loss: Any = config.loss
        self.box_loss, self.class_loss = (
            REGISTRIES[loss.box_losses][loss.box_kind],
            REGISTRIES["loss.class"][loss.class_kind],
        )
        weights = config.class_weights
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", torch.tensor(weights) if weights else None, persistent=False)

    def loss(self, raw: HeadOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Box, regression and classification loss of assigned predictions, and of what else the head predicts.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.
        """
        padded = pad_targets([(getattr(t, self.box_field), t.labels, t.crowd) for t in targets])
        objects = PaddedTargets(*(x.to(raw.logits.device, non_blocking=True) for x in padded))
        with torch.no_grad():  # assignment needs no gradient
            assignment: Assignment = self.assigner(self.head.scores(raw), self.head.boxes(raw), raw.priors, objects)
        positive = torch.where(assignment.index >= 0)
        matched, outputs = (positive[0], assignment.index[positive]), raw.at(positive)
        weight, target_boxes, labels = assignment.weight[positive], objects.boxes[matched], objects.labels[matched]
        loss: Any = self.config.loss  # of what not every head predicts it has the weights where its own does
        distance, count = self.box_loss(self.head.boxes(outputs), target_boxes), weight.sum()
        regression = self.head.regression_loss(outputs, target_boxes)
        terms = {
            "box": LossTerm(loss.box * (weight * distance).sum(), count),
            "regression": LossTerm(loss.regression * (weight * regression).sum(), count),
        }
        used, kind = assignment.index != -2, (self.class_loss, self.class_weights)
        complete = complete_at(raw.priors.centers, targets) if targets and targets[0].complete is not None else None
        if raw.objectness is None:
            target = soft_targets(raw.logits, positive, labels, weight)
            used = used if complete is None else known(used, target, complete)
            terms["classes"] = LossTerm(loss.classes * cross_entropy(raw.logits, target, used, *kind), count)
        else:
            iou = torch.minimum(weight, iou_aligned(self.head.boxes(outputs), target_boxes)).detach()
            quality = torch.zeros_like(raw.objectness).index_put(positive, iou)
            rows = torch.arange(len(labels), device=labels.device)
            target = soft_targets(outputs.logits, (rows,), labels, weight)
            counted = weight > 0 if complete is None else known(weight > 0, target, complete[positive])
            terms["classes"] = LossTerm(loss.classes * cross_entropy(outputs.logits, target, counted, *kind), count)
            terms["objectness"] = LossTerm(loss.objectness * cross_entropy(raw.objectness, quality, used), count)
        if extra := getattr(self.head, "extra", ""):
            losses = self.head.extra_losses(outputs, targets, matched, target_boxes, weight)
            terms |= {name: LossTerm(getattr(loss, extra) * total, count) for name, total in losses.items()}
        return terms

    def candidates(self, raw: HeadOutput) -> tuple[Tensor, Tensor]:
        """Every prediction before NMS: boxes (B, A, 4) or (B, A, 5) in canvas pixels and scores (B, A, C)."""
        return self.head.boxes(raw), self.head.scores(raw)

    def postprocess(self, raw: HeadOutput, keep: Postprocess) -> list[Detections]:
        """The detections of each image after NMS, in canvas pixels, by descending score."""
        boxes, scores = (x.detach().float() for x in (self.head.boxes(raw), self.head.scores(raw)))
        more: list[dict[str, Any]] = [{}] * len(boxes)
        if getattr(self.head, "extra", ""):
            more = self.head.extra_rows(raw)
        return [select_detections(b, s, keep, **rows) for b, s, rows in zip(boxes, scores, more, strict=True)]


class YoloOriented(Yolo):
    """A grid detector whose head, assigner and box loss are those of oriented boxes (B, A, 5)."""

    box_field = "oriented"


def select_detections(boxes: Tensor, scores: Tensor, keep: Postprocess, **rows: Any) -> Detections:
    """The detections of one image that pass the confidence threshold and NMS, on the CPU, by descending score.

    Args:
        boxes: (A, 4) xyxy in pixels, or oriented (A, 5).
        scores: (A, C).
        keep: confidence threshold, NMS, classes and the number of detections.
        rows: other fields of `Detections`, each with a row for each of the A predictions.
    """
    if keep.classes is not None:
        mask = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
        mask[list(keep.classes)] = True
        scores = scores.masked_fill(~mask, -1)
    least = keep.score if keep.class_scores is None else scores.new_tensor(keep.class_scores)
    prior, label = torch.where(scores > least)
    score = scores[prior, label]
    if len(score) > (most := max(CANDIDATES, PER_DETECTION * keep.limit)):
        score, best = score.topk(most)
        prior, label = prior[best], label[best]
        keep.limit_hits.add(crowded=True)
    box, score, label = boxes[prior].cpu(), score.cpu(), label.cpu()
    groups = torch.zeros_like(label) if keep.agnostic else label
    upright = box.shape[1] == 4
    if keep.soft and upright:
        kept, score = soft_nms(box, score, groups, least=max(keep.score, 1e-3), limit=keep.limit + 1)
    else:
        kept = (batched_nms if upright else oriented_nms)(box, score, groups, keep.iou)
        score = score[kept]
    if len(kept) > keep.limit:
        kept, score = kept[: keep.limit], score[: keep.limit]
        keep.limit_hits.add(limited=True)
    oriented = None if upright else canonical(box[kept])
    box = box[kept] if oriented is None else oriented_bounds(oriented)
    found = Detections(box, score, label[kept], oriented=oriented)
    return replace(found, **{name: row[prior.cpu()[kept]].cpu() for name, row in rows.items()}) if rows else found


def build_yolo(config: YoloConfig, metadata: ModelMetadata) -> Yolo:
    """A grid detector with the head that `config` names.

    Raises:
        UserError: the number of anchors is wrong, or the parts do not fit one another.
    """
    kind, levels, each = REGISTRIES["head"][config.head], len(config.levels), config.anchors_per_level
    backbone, neck = build_pyramid(config)
    if kind.uses_anchors and len(config.anchors) != levels * each:
        raise UserError(
            f"model {config.name} has {levels} levels of {each} anchors, but {len(config.anchors)} are listed; "
            f"compute them with detect anchors --k {levels * each}, or leave them out"
        )
    head = kind(neck.channels, neck.strides, len(metadata.names), config.head_convs, config.anchors)
    assigner = REGISTRIES["assigner"][config.assigner]()
    if isinstance(assigner, MaxIoU) and not kind.uses_anchors:
        raise UserError(f"assigner {config.assigner} compares anchor boxes, and head {config.head} has none")
    return Yolo(config, metadata, backbone, neck, head, assigner)


def build_yolo_keypoints(config: YoloKeypointsConfig, metadata: ModelMetadata) -> Yolo:
    """A grid detector that predicts the keypoints of `metadata` too.

    Raises:
        UserError: there are no keypoints, or the assigner needs anchor boxes.
    """
    if not metadata.keypoint_names:
        raise UserError(f"model {config.name} finds keypoints, and the data has none: take another, such as yolo_n")
    return build_anchor_free(config, metadata, KeypointHead, metadata.keypoint_names)


def build_anchor_free(config: AnchorFreeConfig, metadata: ModelMetadata, head: type[PointHead], *more: Any) -> Yolo:
    """A grid detector with a head that predicts more of each object than its box.

    Args:
        config: options of the model.
        metadata: classes to build it for.
        head: the class of the head.
        more: what it takes besides the arguments of `PointHead`.

    Raises:
        UserError: the assigner needs anchor boxes.
    """
    backbone, neck = build_pyramid(config)
    assigner = REGISTRIES["assigner"][config.assigner]()
    if isinstance(assigner, MaxIoU):
        raise UserError(f"assigner {config.assigner} compares anchor boxes, and {config.kind} has none")
    made = head(neck.channels, neck.strides, len(metadata.names), config.head_convs, *more)
    return Yolo(config, metadata, backbone, neck, made, assigner)


def build_yolo_oriented(config: YoloOrientedConfig, metadata: ModelMetadata) -> YoloOriented:
    """A grid detector of oriented boxes."""
    backbone, neck = build_pyramid(config)
    head = OrientedHead(neck.channels, neck.strides, len(metadata.names), config.head_convs)
    return YoloOriented(config, metadata, backbone, neck, head, oriented_task_aligned())
