"""Embedders: any whole network, with a vector of length one in the place of its classes.

Axes: B batch, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from detect.backbones import build_network
from detect.backbones.base import Network
from detect.config import ModelConfig
from detect.errors import UserError
from detect.losses.embeddings import contrastive, siamese, triplet
from detect.models.base import Card, Model
from detect.models.classifier import dense
from detect.types import Distance, Keep, Target, Term, Vector


class Embedding(NamedTuple):
    """What an embedder says: vectors (B, D) float32 of length one."""

    vectors: Tensor


class Embedder(Model):
    """images (B, 3, S, S) uint8 -> Embedding; pictures of one person have near vectors, those of others far ones.

    Near is meant by the Euclidean distance; a Siamese network has a logistic unit on |a - b| that says it.
    """

    square = True

    def __init__(self, config: ModelConfig, card: Card, network: Network):
        super().__init__(config, card)
        self.network = network
        if config.loss.embed == "siamese":
            self.unit_weight = nn.Parameter(torch.ones(config.dimensions))
            self.unit_bias = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, given: Any = None) -> Embedding:
        """Vectors for images (B, 3, S, S) uint8; `given` steers nothing here."""
        return self.answer(self.features(images))

    def trunk(self) -> list[str]:
        """The stages of the network, then what follows before its last layer."""
        return [*(f"network.stages.{i}" for i in range(len(self.network.stages))), "network.neck"]

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """What the dense layers take."""
        return [self.network.features(self.numbers(images))]

    def answer(self, features: list[Tensor], given: Any = None) -> Embedding:
        """Vectors from what the dense layers take."""
        return Embedding(normalize(self.network.head(features[0]).float(), dim=1))

    def loss(self, raw: Embedding, targets: Sequence[Target]) -> dict[str, Term]:
        """The loss that `config.loss.embed` names, over pairs or triplets of the batch.

        The person of a picture is the first label of its target. Without a pair or triplet the loss is zero.
        """
        labels = torch.stack([t.labels[0] for t in targets]).to(raw.vectors.device, non_blocking=True)
        loss = self.config.loss
        if loss.embed == "siamese":
            return siamese(raw.vectors, labels, self.unit_weight, self.unit_bias)
        if loss.embed == "contrastive":
            return contrastive(raw.vectors, labels, loss.margin)
        return triplet(raw.vectors, labels, loss.margin, loss.mining)

    def distance(self) -> Distance:
        """How far apart two vectors are: Euclidean, or minus the logit of the Siamese unit."""
        if self.config.loss.embed != "siamese":
            return Distance()
        weight, bias = self.unit_weight.detach().float().cpu(), float(self.unit_bias.detach())
        return Distance(weight.numpy(), bias)

    def decode(self, raw: Embedding, keep: Keep) -> list[Vector]:
        """The vector of each image; `keep` has no say."""
        distance = self.distance()
        return [Vector(one, distance) for one in raw.vectors.detach().float().cpu().numpy()]

    def calibrate(self, result: dict[str, Any]) -> None:
        """Remember the thresholds that an evaluation on held-out people chose."""
        self.card = replace(self.card, thresholds=result["thresholds"])


def build_embedder(config: ModelConfig, card: Card) -> Embedder:
    """The network that `config.backbone` names, its last layer one of `config.dimensions` numbers.

    `config.hidden` are dense layers before that. Raises UserError for an unknown name or with auxiliary classifiers.
    """
    network = build_network(config.backbone, config.dimensions, config.in_channels, "same")
    if network.aux:
        raise UserError(f"{config.backbone} has auxiliary classifiers, which an embedder cannot use: take another")
    network.head = dense(network, config.hidden, config.dimensions)
    return Embedder(config, card, network)
