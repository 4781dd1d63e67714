"""Why a detection fired: class-activation maps by gradients.

Axes: B images (one), A predictions, C classes, K channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from detect.errors import UserError
from detect.models.base import Model
from detect.models.hooks import Taps
from detect.types import Classification, Detections, Postprocess


class Pass(NamedTuple):
    """An image on its way through a model: the answer, the score of each of its records, the maps they come from."""

    found: Any
    scores: list[Tensor]
    maps: list[Tensor]


def look(model: Model, images: Tensor, keep: Postprocess, layer: str = "") -> Pass:
    """What `model` says of images (1, 3, H, W) uint8, with gradients down to the maps of `layer`.

    Without a layer these are the last maps before the head: a detector's neck, a classifier's last stage. Raises
    UserError for a model that scores nothing.
    """
    names = [layer] if layer else model.backbone_stages()
    with torch.enable_grad(), Taps(model, names) as taps:
        raw = model(images)
        outputs = [taps.maps(name) for name in names if name in taps.said]
        maps = next((one for one in reversed(outputs) if one and all(m.requires_grad for m in one)), [])
        found = model.decode(raw, keep)[0]
        if isinstance(found, Classification):
            scores = list(raw.logits[0][found.labels.to(raw.logits.device)])
        elif isinstance(found, Detections) and type(model).candidates is not Model.candidates:
            scores = _scores(model, raw, found)
        else:
            raise UserError(f"a model for {model.task} gives no score that a map could explain")
    return Pass(found, scores, maps)


def _scores(model: Model, raw: Any, found: Detections) -> list[Tensor]:
    """The score of each detection, of the prediction that is nearest to what was decoded."""
    boxes, scores = (x[0] for x in model.candidates(raw))
    chosen = []
    for box, score, label in zip(found.boxes, found.scores, found.labels.tolist(), strict=True):
        away = (boxes.detach().cpu() - box).abs().sum(-1) + (scores[:, label].detach().cpu() - score).abs()
        chosen.append(scores[int(away.argmin()), label])
    return chosen


def grad_cam(score: Tensor, maps: list[Tensor], size: tuple[int, int], local: bool = False) -> Tensor:
    """What of maps (1, K, h, w) speaks for `score`, (H, W) of `size`, from 0 to 1; where nothing does, 0.

    Each channel weighs what the score gains by it, on average over the map (Grad-CAM, Selvaraju et al., 2017), so all
    that looks like the detection lights up; or with `local` each cell of it by itself (HiResCAM, Draelos and Carin,
    2020), which shows what this one detection rests on. Maps of several sizes are summed.
    """
    gradients = torch.autograd.grad(score, maps, retain_graph=True, allow_unused=True)
    total = torch.zeros(size, device=score.device)
    for gradient, one in zip(gradients, maps, strict=True):
        if gradient is not None:
            weight = gradient if local else gradient.mean((2, 3), keepdim=True)
            heat = (weight * one.detach()).sum(1, keepdim=True).relu()
            total += interpolate(heat.float(), size, mode="bilinear", align_corners=False)[0, 0]
    return total / total.max().clamp(min=1e-30)
