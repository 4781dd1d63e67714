"""Embedders: a whole network with a vector of length one in place of its classes.

Axes: B batch, D numbers of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from detect.errors import UserError
from detect.models.backbones import parts
from detect.models.backbones.base import Network, initialized
from detect.models.base import Model, ModelMetadata
from detect.models.classifier import dense
from detect.models.configs.embedder import EmbedderConfig
from detect.models.losses.embeddings import contrastive, siamese, triplet
from detect.types import Distance, Embedding, LossTerm, NamedRows, Postprocess, Target

GRID = 4  # cells a side that are left of an early map


class EmbeddingOutput(NamedTuple):
    """The output of an embedder: vectors (B, D) float32 of length one."""

    vectors: Tensor


class Embedder(Model):
    """images (B, 3, S, S) uint8 -> EmbeddingOutput; images of one identity have near vectors.

    Near is meant by the Euclidean distance; a Siamese network has a logistic unit on |a - b| instead. Before they are
    scaled to length one, vectors are normalized over the batch (Ioffe and Szegedy, 2015): what all images have in
    common is removed, and a loss that pulls vectors together cannot draw all of them into one place.

    With `early`, a stage and its channels, half of a vector is computed from the feature map of that stage on a grid of
    4 x 4: the output of the whole network no longer knows where in an image things are (Deng et al., 2019, ArcFace,
    read every cell of the last map). Both halves have the same weight.

    With `config.mirror`, vectors outside of training are the mean of those of the image and its mirror image, scaled to
    length one: an object seen from the left has the vector of the same object seen from the right.
    """

    square = True

    config: EmbedderConfig

    def __init__(
        self, config: EmbedderConfig, metadata: ModelMetadata, network: Network, early: tuple[int, int] | None = None
    ):
        super().__init__(config, metadata)
        self.network, self.stage = network, early[0] if early else -1
        self.centre = nn.BatchNorm1d(config.dimensions, affine=False)
        if early:
            numbers = nn.Linear(early[1] * GRID**2, config.dimensions // 2)
            self.places = initialized(nn.Sequential(nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), numbers))
        if config.loss.kind == "siamese":
            # At first two equal vectors have a logit of 3, and two that have nothing to do with each other one of -3.
            self.unit_weight = nn.Parameter(torch.full([config.dimensions], 3 * math.sqrt(math.pi / config.dimensions)))
            self.unit_bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: Tensor, given: Any = None) -> EmbeddingOutput:
        """Vectors for images (B, 3, S, S) uint8; `given` the targets of a training step, mirror images do not count."""
        return self.forward_head(self.features(images, given), given)

    def backbone_stages(self) -> list[str]:
        """The stages of the network, then the layers before its last one."""
        return [*(f"network.stages.{i}" for i in range(len(self.network.stages))), "network.neck"]

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """None: no number of a vector belongs to an identity."""
        return []

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """The inputs of the dense layers, and then those of the mirror images, where these count."""
        mirror = self.config.mirror and given is None
        turned = self._features(images.flip(-1)) if mirror else []  # first: who watches a layer sees the picture last
        return self._features(images) + turned

    def _features(self, images: Tensor) -> list[Tensor]:
        """The inputs of the dense layers: of the whole network, and the early feature map if one is used."""
        x, early = self.preprocess(images), []
        for i, stage in enumerate(self.network.stages):
            x = stage(x)
            if i == self.stage:
                early.append(x)
        return [self.network.neck(x), *early]

    def forward_head(self, features: list[Tensor], given: Any = None) -> EmbeddingOutput:
        """Vectors from what the dense layers take; mirror images in it count where no targets are given."""
        count = 2 if self.stage >= 0 else 1
        straight, turned = features[:count], features[count:]
        if given is not None or not turned:
            return EmbeddingOutput(self._vectors(straight))
        return EmbeddingOutput(normalize(self._vectors(turned) + self._vectors(straight), dim=1))

    def _vectors(self, features: list[Tensor]) -> Tensor:
        whole, *early = features
        halves = [self.network.head(whole), *(self.places(x) for x in early)]
        vectors = self.centre(torch.cat(halves, 1).float()).split([half.shape[1] for half in halves], 1)
        return torch.cat([normalize(half, dim=1) for half in vectors], 1) / math.sqrt(len(vectors))

    def loss(self, raw: EmbeddingOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """The loss that `config.loss.kind` names, over pairs or triplets of the batch; zero where there are none.

        Args:
            raw: what `forward` returned.
            targets: the target of each image; its first label is the identity.
        """
        labels = torch.stack([t.labels[0] for t in targets]).to(raw.vectors.device, non_blocking=True)
        loss = self.config.loss
        if loss.kind == "siamese":
            return siamese(raw.vectors, labels, self.unit_weight, self.unit_bias)
        if loss.kind == "contrastive":
            return contrastive(raw.vectors, labels, loss.margin)
        return triplet(raw.vectors, labels, loss.margin, loss.mining)

    def distance(self) -> Distance:
        """The distance of two vectors: Euclidean, or minus the logit of the Siamese unit."""
        if self.config.loss.kind != "siamese":
            return Distance()
        weight, bias = self.unit_weight.detach().float().cpu(), float(self.unit_bias.detach())
        return Distance(weight.numpy(), bias)

    def postprocess(self, raw: EmbeddingOutput, keep: Postprocess) -> list[Embedding]:
        """The vector of each image; `keep` is not used."""
        distance = self.distance()
        return [Embedding(one, distance) for one in raw.vectors.detach().float().cpu().numpy()]

    def calibrate(self, result: dict[str, Any]) -> None:
        """Store the thresholds that evaluation chose on the validation identities."""
        self.metadata = replace(self.metadata, thresholds=result["thresholds"])


def build_embedder(config: EmbedderConfig, metadata: ModelMetadata) -> Embedder:
    """The network that `config.backbone` names, its last layer one of `config.dimensions` numbers.

    `config.hidden` are dense layers before that;
    With `config.output_stride` half of the numbers come from an early map.

    Raises:
        UserError: an unknown name, one with auxiliary classifiers, or no stage has that stride.
    """
    made = parts(config.backbone, config.in_channels, "same")
    if made.aux:
        raise UserError(f"{config.backbone} has auxiliary classifiers, which an embedder cannot use: take another")
    if config.output_stride and config.output_stride not in made.strides:
        known = ", ".join(map(str, sorted(set(made.strides))))
        raise UserError(
            f"--model.output-stride {config.output_stride}: the stages of {config.backbone} have strides {known}"
        )
    if config.output_stride and config.dimensions < 2:
        raise UserError("--model.output-stride makes two halves of a vector: give --model.dimensions 2 or more")
    whole = config.dimensions - (config.dimensions // 2 if config.output_stride else 0)
    network = Network(made, whole)
    network.head = dense(network, config.hidden, whole)
    if not config.output_stride:
        return Embedder(config, metadata, network)
    last = max(i for i, stride in enumerate(made.strides) if stride == config.output_stride)
    return Embedder(config, metadata, network, (last, made.channels[last]))
