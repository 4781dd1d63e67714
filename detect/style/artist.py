"""Paints an image in the style of another, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from detect.commands.stylize import StylizeConfig
from detect.data.images import scaled
from detect.errors import UserError
from detect.style.images import cover_crop, to_tensor
from detect.style.network import FeatureExtractor, default_layers, load
from detect.style.transfer import Objective, Terms, Weights, minimize
from detect.utils.device import pick_device


class Stylizer:
    """The network with its layers and loss weights, which stylizes one image after the other.

    Raises:
        UserError: a layer or the weights cannot be used.
    """

    def __init__(self, config: StylizeConfig) -> None:
        self.config, self.device = config, pick_device(config.device)
        model = load(config).to(self.device)
        content, styles = default_layers(model)
        lambdas = parse_layers(config.style_layers or styles)
        content = config.content_layer or content
        self.weights = Weights(content, lambdas, config.alpha, config.beta, config.tv)
        self.features = FeatureExtractor(model, [content, *lambdas])

    def paint(self, content: np.ndarray, style: np.ndarray) -> Iterator[tuple[Tensor, Terms]]:
        """Stylize an image step by step.

        Args:
            content: the image (H, W, 3) uint8 RGB to stylize.
            style: the image (H, W, 3) uint8 RGB whose style it gets.

        Yields:
            The image (1, 3, h, w) in 0..1 before each step and after the last, with its costs.
        """
        config, (height, width) = self.config, content.shape[:2]
        scale = config.imgsz / max(height, width)
        small = scaled(content, scale)
        start, target_style = (to_tensor(one, self.device) for one in (small, cover_crop(style, *small.shape[:2])))
        objective = Objective(self.features, start, target_style, self.weights)
        if config.start == "noise":
            start = torch.rand(start.shape, generator=torch.Generator().manual_seed(config.seed)).to(self.device)
        return minimize(objective, start, config.steps, config.optimizer)


def parse_layers(words: list[str]) -> dict[str, float]:
    """The weights of layers from words NAME or NAME=WEIGHT, scaled to sum to 1.

    Raises:
        UserError: a word has another form, or all weights are 0.
    """
    weights = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            weights[name] = float(value or 1)
        except ValueError:
            weights[name] = -1.0
        if not 0 <= weights[name] < float("inf"):
            raise UserError(f"--style-layers {word}: write NAME=WEIGHT, a number from 0")
    total = sum(weights.values())
    if not total:
        raise UserError("--style-layers: every weight is 0, so there is no style: give one a weight")
    return {name: weight / total for name, weight in weights.items()}
