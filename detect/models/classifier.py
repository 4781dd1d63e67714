"""Classifiers: a whole network that tells the class of an image.

Axes: B batch, C classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from detect.errors import UserError
from detect.models.backbones import build_network
from detect.models.backbones.base import Logits, Network, initialized
from detect.models.backbones.dimensions import spread
from detect.models.base import Model, ModelMetadata
from detect.models.configs.classifier import ClassifierConfig
from detect.models.configs.layers import LayersConfig
from detect.models.losses.classes import softmax_cross_entropy
from detect.types import Classification, LossTerm, NamedRows, Postprocess, Target

AUX_WEIGHT = 0.3  # of the loss of an auxiliary classifier (Szegedy et al., 2015, section 5)
MAX_CLASSES = 5  # of a result


class Classifier(Model):
    """images (B, 3, S, S) uint8 -> Logits; each image has one class.

    In one dimension images are signals (B, channels, L), in three volumes (B, channels, D, H, W), of real numbers.
    The auxiliary classifiers that some networks have take part in the loss and are dropped from the fused copy.
    """

    square = True

    config: ClassifierConfig | LayersConfig

    def __init__(self, config: ClassifierConfig | LayersConfig, metadata: ModelMetadata, network: Network):
        super().__init__(config, metadata)
        self.network = network
        weights = config.class_weights or [1.0] * len(metadata.names)
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor, given: Sequence[Target] | None = None) -> Logits:
        """Logits for images (B, 3, S, S) uint8; `given` is not used."""
        return self.network(self.preprocess(images))

    def backbone_stages(self) -> list[str]:
        """The stages of the network, then the layers before its last one."""
        return [*(f"network.stages.{i}" for i in range(len(self.network.stages))), "network.neck"]

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """The last layer, and those of the auxiliary classifiers."""
        return [(layer, NamedRows()) for layer in self.network.outputs()]

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """The input of the last layer.

        Raises:
            UserError: the network has auxiliary classifiers, which read more than that.
        """
        if self.network.aux:
            raise UserError(f"{self.config.name} has auxiliary classifiers, which need more than its features")
        return [self.network.features(self.preprocess(images))]

    def forward_head(self, features: list[Tensor], given: Any = None) -> Logits:
        """Logits from the input of the last layer."""
        return Logits(self.network.head(features[0]))

    def loss(self, raw: Logits, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Cross-entropy with label smoothing and class weights, divided by the sum of the weights.

        The class of an image is the first label of its target; images without labels do not count.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.
        """
        first = torch.stack([t.labels[0] if len(t) else torch.tensor(-1) for t in targets])
        first = first.to(raw.logits.device, non_blocking=True)
        labels = first.clamp(min=0)
        weight = self.get_buffer("class_weights")[labels] * (first >= 0)
        losses = [softmax_cross_entropy(x, labels, weight, self.config.loss.smoothing) for x in (raw.logits, *raw.aux)]
        terms = {"classes": LossTerm(losses[0], weight.sum())}
        if raw.aux:
            terms["aux"] = LossTerm(AUX_WEIGHT * torch.stack(losses[1:]).sum(), weight.sum())
        return terms

    def scores(self, raw: Logits) -> Tensor:
        """The probability of each class (B, C), calibrated where the weights have a calibration."""
        calibration = self.metadata.calibration
        return (raw.logits.float() / (calibration.temperatures[0] if calibration else 1.0)).softmax(-1)

    def postprocess(self, raw: Logits, keep: Postprocess) -> list[Classification]:
        """The classes of each image by descending score: see `top_classes`."""
        return top_classes(self.scores(raw), keep)

    def require_side(self, side: int) -> None:
        """Check that images of `side` pixels are large enough for the network, by running it once.

        Raises:
            UserError: they are too small.
        """
        if next(self.parameters()).is_meta:  # its shapes alone are asked for
            return
        mode = self.training
        try:
            with torch.inference_mode():
                self.eval()(self.dummy_input(side))
        except RuntimeError as error:
            remedy = f"take --imgsz {self.network.size}, or train it with --model.padding same"
            if self.dims != 2:
                remedy = "take longer ones, --model.padding same, or another --model, such as lenet5"
            what = "on {side} px" if self.dims == 2 else "in {dims} dimensions on a side of {side}"
            where = what.format(side=side, dims=self.dims)
            raise UserError(f"{self.config.backbone} as published does not run {where}: {remedy}") from error
        finally:
            self.train(mode)

    def fused(self) -> Self:
        """The copy for inference, without auxiliary classifiers."""
        fused = super().fused()
        fused.network.drop_aux()
        return fused


def top_classes(scores: Tensor, keep: Postprocess) -> list[Classification]:
    """The classes of each image by descending score, on the CPU.

    Args:
        scores: probabilities (B, C).
        keep: the classes to choose from, and the confidence threshold; the first class is returned whatever its score.

    Returns:
        For each image the most probable class, and up to four more above `keep.score`.
    """
    scores = scores.detach().float().cpu()
    labels = torch.arange(scores.shape[1]) if keep.classes is None else torch.tensor(keep.classes)
    found, order = scores[:, labels].topk(min(MAX_CLASSES, keep.limit, len(labels)), dim=1)
    counts = (found[:, 1:] > keep.score).sum(1).add(1).tolist()
    return [Classification(s[:n], labels[o[:n]]) for s, o, n in zip(found, order, counts, strict=True)]


def dense(network: Network, hidden: Sequence[int], classes: int, dims: int = 2) -> nn.Sequential:
    """Dense layers for the head of `network`: hidden ones with ReLU, and one for the logits.

    Args:
        network: the network whose features they read.
        hidden: widths of the hidden layers.
        classes: number of logits.
        dims: dimensions of the input of the network.
    """
    maps = any(isinstance(layer, _ConvNd) for layer in network.head)
    start = [spread(nn.AdaptiveAvgPool2d(1), dims), nn.Flatten()] if maps else []
    widths = [network.width, *hidden]
    layers = [[nn.Linear(a, b), nn.ReLU(inplace=True)] for a, b in pairwise(widths)]
    named: dict[str, nn.Module] = {"start": nn.Sequential(*start), "hidden": nn.Sequential(*chain(*layers))}
    head = nn.Sequential(OrderedDict(named | {"last": nn.Linear(widths[-1], classes)}))
    return initialized(head)


def build_classifier(config: ClassifierConfig, metadata: ModelMetadata) -> Classifier:
    """The backbone of `config` as a whole network.

    Padding is the published one if images are at least as large as the published size, else "same", for any size.

    Raises:
        UserError: an unknown name, or images that are too small for the network.
    """
    classes = len(metadata.names)
    network = build_network(config.backbone, classes, config.in_channels, "same", config.dims)
    if config.padding == "paper" or (config.padding == "auto" and metadata.size >= network.size):
        network = build_network(config.backbone, classes, config.in_channels, "paper", config.dims)
    if config.hidden:
        network.head = dense(network, config.hidden, classes, config.dims)
    model = Classifier(config, metadata, network)
    if metadata.size < network.size:
        model.require_side(metadata.size)
    return model
