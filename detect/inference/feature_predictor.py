"""Results together with the features of the image: what the model's head has read, as one vector.

Axes: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from detect.inference.predictor import Predictor, Prepared
from detect.models.base import Model
from detect.types import Frame


class _Watched:
    """A model that keeps the features of its last batch."""

    def __init__(self, model: Model) -> None:
        self.model, self.vectors = model, np.zeros((0, 0), np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, images: Tensor, *given: Any) -> Any:
        maps = self.model.features(images, *given)
        self.vectors = pooled(maps).cpu().numpy()
        return self.model.forward_head(maps, *given)


class FeaturePredictor(Predictor):
    """As `Predictor`, with pairs of result and features (D,) float32 as results. Batches are computed one by one.

    Args:
        model: a model of images, prepared by `for_inference`; exported files hide their features.
        options: the other arguments of `Predictor`.
    """

    def __init__(self, model: Model, *options: Any) -> None:
        super().__init__(_Watched(model), *options)

    def _predict(self, items: list[Prepared]) -> list[tuple[Frame, Any]]:
        pairs = super()._predict(items)
        return [(frame, (result, vector)) for (frame, result), vector in zip(pairs, self.model.vectors, strict=True)]


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """The mean of each channel of feature maps (B, C, h, w), or vectors (B, C), as one vector of each image (B, D).

    The part of each map has length 1, so that none outweighs the others.
    """
    means = [normalize(x.float().flatten(2).mean(2) if x.ndim > 2 else x.float(), dim=1) for x in maps]
    return torch.cat(means, 1) / len(means) ** 0.5
