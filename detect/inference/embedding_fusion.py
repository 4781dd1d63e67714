"""The embeddings of several models for one image as one, whose distance is the weighted mean of theirs.

Axes: M models, D values of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from detect.config.fusion import MeanConfig
from detect.errors import UserError
from detect.limits import LimitHits
from detect.types import Distance, Embedding, Postprocess

if TYPE_CHECKING:
    from detect.api import Detector


class EmbeddingFusion:
    """Joins the embeddings of models: one after the other, each times the square root of the share of its model.

    So the squared Euclidean distance of two joined embeddings is the weighted mean of the squared distances of the
    models, and a joined embedding has length one, as those of the models have. Of Siamese networks, whose distance is
    minus a logit, it is the weighted mean of the distances.

    Attributes:
        metadata: that of the first model, without thresholds where there are several models.
        shares: weight of each model (M), which add up to 1.
        distance: of two joined embeddings.
        dimensions: length of a joined embedding.

    Args:
        members: the models.
        weights: their files, for messages.
        fusion: how much each model counts.

    Raises:
        UserError: some of the models are Siamese networks.
    """

    method = "mean distance"

    def __init__(self, members: Sequence[Detector], weights: Sequence[str], fusion: MeanConfig) -> None:
        given = np.array(fusion.weights or [1.0] * len(members), float)
        given = given / given.max()  # the sum of very large numbers would be infinite
        self.shares: list[float] = (given / given.sum()).tolist()
        self.dimensions = sum(member.model.config.dimensions for member in members)
        self.distance = mean_distance([member.model.distance() for member in members], self.shares, weights)
        first = members[0].metadata
        self.metadata = first if len(members) == 1 else replace(first, thresholds={})

    def member_postprocess(self, keep: Postprocess) -> list[Postprocess]:
        """The postprocessing of each model: the same."""
        return [replace(keep, limit_hits=LimitHits()) for _ in self.shares]

    def __call__(self, keep: Postprocess, results: Sequence[Embedding]) -> Embedding:
        """The joined embedding of one image.

        Args:
            keep: not used.
            results: the embedding by each model, of length one.
        """
        values = [share**0.5 * one.values for share, one in zip(self.shares, results, strict=True)]
        return Embedding(np.concatenate(values), self.distance)


def mean_distance(distances: Sequence[Distance], shares: Sequence[float], weights: Sequence[str]) -> Distance:
    """The distance of joined embeddings.

    Args:
        distances: those of the models (M).
        shares: weight of each model (M).
        weights: their files, for messages.

    Raises:
        UserError: some of the distances are Euclidean, and some are not.
    """
    units = [one.weight for one in distances if one.weight is not None]
    if not units:
        return Distance()
    if len(units) < len(distances):
        kinds: dict[bool, str] = {}
        for one, path in zip(distances, weights, strict=True):
            kinds.setdefault(one.weight is None, path)
        raise UserError(
            f"the distance of {kinds[True]} is Euclidean, that of {kinds[False]} is minus the logit of a Siamese "
            "network: they have no mean; give weights of one kind"
        )
    # The vectors are scaled by the root of the share, and so is the weight of their differences.
    unit = np.concatenate([share**0.5 * one for share, one in zip(shares, units, strict=True)])
    bias = sum(share * one.bias for share, one in zip(shares, distances, strict=True))
    return Distance(unit, bias)
