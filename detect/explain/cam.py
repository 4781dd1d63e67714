"""Class-activation maps: which parts of an image a prediction rests on, by gradients.

Axes: B images (one), A predictions, C classes, K channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from detect.errors import UserError
from detect.models.base import Model
from detect.models.hooks import LayerOutputs
from detect.types import Classification, Detections, Postprocess


class Explained(NamedTuple):
    """The result for an image, the score of each of its rows, and the feature maps that the scores come from."""

    result: Any
    scores: list[Tensor]
    maps: list[Tensor]


def explain_predictions(model: Model, images: Tensor, keep: Postprocess, layer: str = "") -> Explained:
    """Predict an image, keeping gradients down to the feature maps of a layer.

    Args:
        model: a detector or a classifier.
        images: (1, 3, H, W) uint8.
        keep: which results are kept.
        layer: its name; "": the last maps before the head, such as the neck of a detector.

    Raises:
        UserError: the model has no scores.
    """
    names = [layer] if layer else model.backbone_stages()
    with torch.enable_grad(), LayerOutputs(model, names) as taps:
        raw = model(images)
        outputs = [taps.maps(name) for name in names if name in taps.outputs]
        maps = next((one for one in reversed(outputs) if one and all(m.requires_grad for m in one)), [])
        result = model.postprocess(raw, keep)[0]
        if isinstance(result, Classification):
            scores = list(raw.logits[0][result.labels.to(raw.logits.device)])
        elif isinstance(result, Detections) and type(model).candidates is not Model.candidates:
            scores = _scores(model, raw, result)
        else:
            raise UserError(f"a model for {model.task} has no scores that a class-activation map could explain")
    return Explained(result, scores, maps)


def _scores(model: Model, raw: Any, detections: Detections) -> list[Tensor]:
    """The score of each detection, with gradients: that of the raw prediction nearest to it."""
    boxes, scores = (x[0] for x in model.candidates(raw))
    chosen = []
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels.tolist(), strict=True):
        distance = (boxes.detach().cpu() - box).abs().sum(-1) + (scores[:, label].detach().cpu() - score).abs()
        chosen.append(scores[int(distance.argmin()), label])
    return chosen


def grad_cam(score: Tensor, maps: list[Tensor], size: tuple[int, int], local: bool = False) -> Tensor:
    """How much each part of an image contributes to a score.

    Each channel is weighted by its gradient, averaged over the map (Grad-CAM, Selvaraju et al., 2017), so everything
    that looks like the detection lights up; with `local`, by the gradient of each cell (HiResCAM, Draelos and Carin,
    2020), which shows what this one detection rests on. Maps of several sizes are summed.

    Args:
        score: of one row of the result.
        maps: feature maps (1, K, h, w).
        size: height and width of the returned map.
        local: whether gradients are taken cell by cell.

    Returns:
        (H, W) in 0..1; 0 where nothing contributes.
    """
    gradients = torch.autograd.grad(score, maps, retain_graph=True, allow_unused=True)
    total = torch.zeros(size, device=score.device)
    for gradient, one in zip(gradients, maps, strict=True):
        if gradient is not None:
            weight = gradient if local else gradient.mean((2, 3), keepdim=True)
            heat = (weight * one.detach()).sum(1, keepdim=True).relu()
            total += interpolate(heat.float(), size, mode="bilinear", align_corners=False)[0, 0]
    return total / total.max().clamp(min=1e-30)
