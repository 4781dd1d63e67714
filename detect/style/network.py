"""The network whose feature maps style transfer compares: an ImageNet backbone, its layers by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detect.commands.stylize import StylizeConfig
from detect.config.train import TrainConfig
from detect.errors import UserError, unknown
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.classifier import Classifier
from detect.models.configs.classifier import ClassifierConfig
from detect.models.hooks import LayerOutputs, find_layer
from detect.training.transfer import begin, choose_pixels, find_source

CLASSES = 1000  # of ImageNet; the classification layer is not used


def load(config: StylizeConfig) -> Classifier:
    """The frozen backbone of `config`, with its weights.

    Raises:
        UserError: no weights are given, or they lack some of its layers.
    """
    kind = ClassifierConfig(name=config.backbone, backbone=config.backbone, padding="paper")
    wanted = TrainConfig(
        data="",
        model=kind,
        backbone_weights=config.backbone_weights,
        pretrained=config.pretrained,
        pixels=config.pixels,
    )
    source = find_source(wanted)
    if source is None:
        raise UserError(
            f"detect stylize needs trained weights of {config.backbone}: name a file with "
            "--backbone-weights, or fetch torchvision's with --pretrained"
        )
    names = [str(i) for i in range(CLASSES)]
    model = build(kind, ModelMetadata(names, list(range(CLASSES)), preprocess=choose_pixels(wanted, source)))
    assert isinstance(model, Classifier)
    left, trained = begin(model, source, tell=True), dict(model.named_parameters())
    if untrained := [name for name in left if name in trained and name.startswith("network.stages.")]:
        raise UserError(
            f"{source.name}: {len(untrained)} weights of {config.backbone} are not in it, so its layers "
            "would not be trained: name the --backbone of the file"
        )
    return model.eval().requires_grad_(False)


class FeatureExtractor:
    """Feature maps by layer name, for images (1, 3, H, W) RGB in 0..1.

    Args:
        model: a classifier.
        layers: names of layers in its stages.

    Raises:
        UserError: a layer does not exist or has no feature map, or an image is too small for it.
    """

    def __init__(self, model: Classifier, layers: Sequence[str]) -> None:
        self.model, self.layers = model, {name: find_layer(model.network, name) for name in layers}
        stages = [f"stages.{i}" for i in range(len(model.network.stages))]
        depths = []
        for name, path in self.layers.items():
            if not path.startswith("stages."):
                raise unknown("layer with a map", name, stages)
            depths.append(int(path.split(".")[1]))
        self.stages = model.network.stages[: max(depths) + 1]

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        x = self.model.preprocess(image * 255)
        with LayerOutputs(self.model.network, set(self.layers.values())) as taps:
            try:
                for stage in self.stages:
                    x = stage(x)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError) as error:
                height, width = image.shape[2:]
                raise UserError(f"an image of {width} x {height} px is too small: take a larger --imgsz") from error
            maps = {name: taps.map(path) for name, path in self.layers.items()}
        if any(0 in m.shape for m in maps.values()):
            raise UserError("the image is too small for these layers: take a larger --imgsz")
        return maps


def default_layers(model: Classifier) -> tuple[str, list[str]]:
    """The content layer, the stage before the last, and the style layers, all stages."""
    stages = [f"stages.{i}" for i in range(len(model.network.stages))]
    return stages[max(0, len(stages) - 2)], stages
