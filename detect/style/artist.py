"""Paints an image in the style of another, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from detect.commands.stylize import StylizeConfig
from detect.data.images import scaled
from detect.errors import UserError
from detect.style.images import as_numbers, covering
from detect.style.network import Eyes, default_layers, load
from detect.style.transfer import Objective, Terms, Weights, descend
from detect.utils.device import pick_device


class Artist:
    """The network with its layers and weights, which paints images one after the other."""

    def __init__(self, config: StylizeConfig) -> None:
        self.config, self.device = config, pick_device(config.device)
        model = load(config).to(self.device)
        content, styles = default_layers(model)
        lambdas = parse_layers(config.style_layers or styles)
        content = config.content_layer or content
        self.weights = Weights(content, lambdas, config.alpha, config.beta, config.tv)
        self.eyes = Eyes(model, [content, *lambdas])

    def paint(self, content: np.ndarray, style: np.ndarray) -> Iterator[tuple[Tensor, Terms]]:
        """The image (1, 3, h, w) before each step and after the last, with its costs, of two (H, W, 3) uint8."""
        config, (height, width) = self.config, content.shape[:2]
        scale = config.imgsz / max(height, width)
        small = scaled(content, scale)
        mine, theirs = (as_numbers(one, self.device) for one in (small, covering(style, *small.shape[:2])))
        objective = Objective(self.eyes, mine, theirs, self.weights)
        if config.start == "noise":
            mine = torch.rand(mine.shape, generator=torch.Generator().manual_seed(config.seed)).to(self.device)
        return descend(objective, mine, config.steps, config.optimizer)


def parse_layers(words: list[str]) -> dict[str, float]:
    """Weights by layer of words NAME or NAME=WEIGHT, made to sum to 1. Raises UserError for others."""
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
