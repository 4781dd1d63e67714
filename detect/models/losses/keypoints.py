"""Losses of coordinates; each gives one value for each coordinate, not reduced."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, smooth_l1_loss

from detect.registry import register

WIDTH, CURVE = 10.0, 2.0  # w and epsilon, the best of the paper's


@register("loss.keypoint", "wing")
def wing(found: Tensor, wanted: Tensor) -> Tensor:
    """Logarithmic below WIDTH, so that small errors count as well, linear above (Feng et al., 2018, equation 5).

    Of any shape, in hundredths of the image's side: the paper's numbers are for faces of 64 pixels.
    """
    distance = (found - wanted).abs()
    jump = WIDTH - WIDTH * math.log1p(WIDTH / CURVE)
    return torch.where(distance < WIDTH, WIDTH * torch.log1p(distance / CURVE), distance - jump)


register("loss.keypoint", "smooth_l1")(partial(smooth_l1_loss, reduction="none"))


def spread_loss(heat: Tensor, places: Tensor, width: int, sigma: float = 1.0) -> Tensor:
    """Cross-entropy of softmax(heat) to a Gaussian around each keypoint: (P,).

    It keeps a heatmap concentrated around its keypoint, as the regularizer of Nibali et al. (2018) does; the
    expectation alone would leave its shape free. A Gaussian wholly outside the map is replaced by the cells nearest to
    it.

    Args:
        heat: (P, H * W).
        places: target positions (P, 2) x, y in cells, the centre of the first cell at 0.5.
        width: W.
        sigma: deviation of the Gaussian in cells.
    """
    cell = torch.arange(heat.shape[-1], device=heat.device)
    centers = torch.stack([cell % width, cell // width], -1) + 0.5
    squares = (centers - places[:, None]).square().sum(-1)
    wanted = torch.softmax(-squares / (2 * sigma**2), -1)
    return -(wanted * log_softmax(heat, -1)).sum(-1)


def similarity_loss(found: Tensor, wanted: Tensor, there: Tensor, boxes: Tensor, sigmas: Tensor) -> Tensor:
    """log(1 + e) of keypoints, averaged over the labelled ones of each object, 0 if none is: (P,).

    exp(-e) is COCO's object keypoint similarity, for objects that fill 0.53 of their boxes, as people do. For far
    keypoints 1 - exp(-e) has no gradient left; the logarithm has, as Cauchy's loss.

    Args:
        found: predicted keypoints (P, K, 2).
        wanted: target keypoints (P, K, 2).
        there: (P, K), whether each is labelled.
        boxes: target boxes (P, 4).
        sigmas: spread (K,) of each keypoint.
    """
    areas = 0.53 * (boxes[:, 2:] - boxes[:, :2]).prod(-1, keepdim=True).clamp(min=1)
    e = (found - wanted).square().sum(-1) / (2 * areas * (2 * sigmas).square())
    return (there * torch.log1p(e)).sum(-1) / there.sum(-1).clamp(min=1)
