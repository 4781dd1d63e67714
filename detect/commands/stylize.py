"""`detect stylize`: one picture, or a share of a training set's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detect.config.options import StylizeConfig
from detect.data.image_writer import save_image
from detect.data.images import read_image, scaled
from detect.errors import UserError
from detect.style.images import WRITTEN, as_numbers, as_picture, covering
from detect.style.network import Eyes, default_layers, load
from detect.style.stylized_copies import copy_all
from detect.style.transfer import Objective, Terms, Weights, descend
from detect.utils.device import pick_device
from detect.utils.locks import locked_files
from detect.utils.names import say
from detect.utils.progress import track


def stylize(config: StylizeConfig) -> list[Terms]:
    """Stylize as `config` says. Returns the terms of J before each step and after the last, of the one picture."""
    _refuse(config)
    styles = [read_image(path) for path in config.style]
    content = read_image(config.content) if config.content else None
    if content is None:
        copy_all(config, styles, Artist(config).paint)
        return []
    with locked_files(config.out, kind="image"):
        return _paint_one(config, Artist(config).paint(content, styles[0]))


def _paint_one(config: StylizeConfig, states: Iterator[tuple[Tensor, Terms]]) -> list[Terms]:
    """Write the one picture, and say how the terms of J changed."""
    out, terms = Path(config.out), list[Terms]()
    with closing(track(states, config.steps + 1, "stylize", lambda: f"J {sum(terms[-1].values()):.4f}")) as tracked:
        for step, (image, costs) in enumerate(tracked):
            terms.append(costs)
            if step == config.steps or (step and config.every and step % config.every == 0):
                save_image(out, as_picture(image))
    for name in terms[0]:
        say(f"{name:<8}{terms[0][name]:10.4f} -> {terms[-1][name]:.4f}")
    first, last = (sum(costs.values()) for costs in (terms[0], terms[-1]))
    say(f"J       {first:10.4f} -> {last:.4f} in {config.steps} steps; see {out}")
    return terms


def _refuse(config: StylizeConfig) -> None:
    """Raises UserError for flags that do not go together."""
    if bool(config.content) == bool(config.data):
        raise UserError("detect stylize needs --content, a picture, or --data, a set of them: give one of the two")
    if not config.style:
        raise UserError("detect stylize needs --style, the picture whose style is wanted")
    if not config.alpha + config.beta + config.tv:
        raise UserError("--alpha, --beta and --tv are all 0, so that nothing would change: give one of them a weight")
    if config.content and len(config.style) > 1:
        raise UserError("several --style are for --data, where each copy has one: give one")
    if config.content and Path(config.out).suffix.lower() not in WRITTEN:
        raise UserError(f"--out {config.out}: name a picture to write, such as {Path(config.out).stem or 'out'}.png")
    if config.content and Path(config.out).resolve() in {
        Path(one).resolve() for one in (config.content, *config.style)
    }:
        raise UserError(f"--out {config.out} is a picture that is read: name another")


class Artist:
    """The network with its layers and weights, which paints pictures one after the other."""

    def __init__(self, config: StylizeConfig) -> None:
        self.config, self.device = config, pick_device(config.device)
        model = load(config).to(self.device)
        content, styles = default_layers(model)
        lambdas = parse_layers(config.style_layers or styles)
        content = config.content_layer or content
        self.weights = Weights(content, lambdas, config.alpha, config.beta, config.tv)
        self.eyes = Eyes(model, [content, *lambdas])

    def paint(self, content: np.ndarray, style: np.ndarray) -> Iterator[tuple[Tensor, Terms]]:
        """The picture (1, 3, h, w) before each step and after the last, with its costs, of two (H, W, 3) uint8."""
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
