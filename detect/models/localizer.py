"""Localization: at most one object in an image; whether there is one, its box and its class.

Axes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.models.base import ModelMetadata
from detect.models.configs.localizer import LocalizerConfig
from detect.models.heads.single_object import LocalizerHead, LocalizerOutput
from detect.models.losses.classes import softmax_cross_entropy
from detect.models.necks import build_pyramid
from detect.models.single_object import SingleObjectModel, canvas_sizes
from detect.registry import REGISTRIES
from detect.types import Detections, LossTerm, Postprocess, Target


class Localizer(SingleObjectModel):
    """images (B, 3, S, S) uint8 -> LocalizerOutput.

    The target object of an image is its largest one that is no crowd.
    """

    config: LocalizerConfig

    @property
    def box_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The registered box loss: of an overlap, or of the distance of coordinates."""
        kind = self.config.loss.box_kind
        return REGISTRIES["loss.box" if kind in REGISTRIES["loss.box"] else "loss.coordinates"][kind]

    def loss(self, raw: LocalizerOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Presence over all images; box, in shares of the side, and class over the images with an object.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.
        """
        w, device = self.config.loss, raw.boxes.device
        target_boxes, labels = (x.to(device, non_blocking=True) for x in largest_objects(targets))
        there = labels >= 0
        scale = canvas_sizes(targets, device).repeat(1, 2)[there]
        distance = self.box_loss(raw.boxes[there] / scale, target_boxes[there] / scale)
        weights = torch.tensor(w.class_weights or [1.0] * raw.logits.shape[1], device=device)
        weight = weights[labels[there]]
        presence = binary_cross_entropy_with_logits(raw.presence, there.to(raw.presence.dtype), reduction="sum")
        classes = softmax_cross_entropy(raw.logits[there], labels[there], weight, w.smoothing)
        return {
            "objectness": LossTerm(w.objectness * presence, torch.tensor(float(len(targets)), device=device)),
            "box": LossTerm(w.box * distance.sum(), there.sum()),
            "classes": LossTerm(w.classes * classes, weight.sum()),
        }

    def candidates(self, raw: LocalizerOutput) -> tuple[Tensor, Tensor]:
        """The box of each image (B, 1, 4) and its scores (B, 1, C): presence times the class probability."""
        scores = raw.presence.sigmoid()[:, None] * raw.logits.softmax(-1)
        return raw.boxes[:, None], scores[:, None]

    def postprocess(self, raw: LocalizerOutput, keep: Postprocess) -> list[Detections]:
        """The object of each image whose presence scores above `keep.score`, with its most probable class."""
        return localizer_detections(raw, keep)


def localizer_detections(raw: LocalizerOutput, keep: Postprocess) -> list[Detections]:
    """`Localizer.postprocess` without a network: it also serves exported models."""
    logits = raw.logits.detach().cpu()
    if keep.classes is not None:
        unwanted = torch.ones(logits.shape[1], dtype=torch.bool).index_fill(0, torch.tensor(keep.classes), False)
        logits = logits.masked_fill(unwanted, -torch.inf)
    boxes, scores, labels = raw.boxes.detach().cpu(), raw.presence.detach().sigmoid().cpu(), logits.argmax(1)
    rows = Detections(boxes, scores, labels)
    return [rows[i : i + 1][scores[i : i + 1] > keep.score] for i in range(len(boxes))]


def largest_objects(targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
    """Box (B, 4) and label (B,) of the largest object of each target; zeros and -1 where there is none."""
    boxes, labels = torch.zeros(len(targets), 4), torch.full((len(targets),), -1)
    for i, target in enumerate(targets):
        single = target[~target.crowd]
        if len(single):
            best = (single.boxes[:, 2:] - single.boxes[:, :2]).prod(1).argmax()
            boxes[i], labels[i] = single.boxes[best], single.labels[best]
    return boxes, labels


def build_localizer(config: LocalizerConfig, metadata: ModelMetadata) -> Localizer:
    """A localizer with the parts that `config` names.

    Raises:
        UserError: an unknown name, or a level that the backbone lacks.
    """
    backbone, neck = build_pyramid(config)
    head = LocalizerHead(neck.channels, neck.strides, len(metadata.names), config.hidden)
    return Localizer(config, metadata, backbone, neck, head)
