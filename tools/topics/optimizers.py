"""Optimizers, schedules, initialization and class balance on one small problem, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from detect.config.optim import OptimConfig, with_defaults
from detect.training.optim import build_optimizer
from detect.training.schedules import lr_factor
from tools.drawing import chart, sheet
from tools.small_problem import digits, loss_of, network

EPOCHS, BATCH = 8, 32
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
SCHEDULES = ("constant", "piecewise", "exponential", "1/t", "cosine", "linear")
SCALES = {"0.01": 0.01, "He: √(2 / inputs)": 0.0, "0.5": 0.5}  # standard deviations of the initial weights
RARE = 5  # digits below it are rare


def draw() -> dict[str, np.ndarray]:
    """Test loss by optimizer, schedule and initialization, and accuracy by class with and without weights."""
    by_name = {name: _train(OptimConfig(name=name, schedule="constant", warmup=0)) for name in OPTIMIZERS}
    by_scale = {
        name: _train(OptimConfig(name="momentum", schedule="constant", warmup=0), scale, 6)
        for name, scale in SCALES.items()
    }
    rates = {name: [lr_factor(_schedule(name), step, 20, 400, 20) for step in range(400)] for name in SCHEDULES}
    return {
        "optimizers": _lines(by_name, "epoch", "test loss", 1 / 10),
        "optimizers_schedules": _lines(rates, "epoch", "factor on the learning rate", 1 / 20),
        "optimizers_start": _lines(by_scale, "epoch", "test loss of six layers", 1 / 10, "log"),
        "optimizers_balance": _balance(),
    }


def _schedule(name: str) -> OptimConfig:
    return with_defaults(OptimConfig(schedule=name))


def _train(config: OptimConfig, scale: float = 0.0, layers: int = 2) -> list[float]:
    """The test loss ten times an epoch."""
    images, _, test_images, test_labels = digits()
    model = network(scale, layers)
    optimizer, losses = build_optimizer(model, config), []

    def measure(step: int, steps: int) -> None:
        if step * 10 % steps < 10:
            with torch.no_grad():
                losses.append(loss_of(model, test_images, test_labels).item())

    _steps(model, optimizer, np.arange(len(images)), measure)
    return losses


def _steps(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    chosen: np.ndarray,
    measure: Callable[[int, int], None] = lambda step, steps: None,
    weights: torch.Tensor | None = None,
) -> None:
    """Train on the `chosen` images; `measure` is called before each step with its number and those of an epoch."""
    images, labels, *_ = digits()
    random, steps = np.random.default_rng(0), -(-len(chosen) // BATCH)
    for _ in range(EPOCHS):
        order = random.permutation(chosen)
        for step in range(steps):
            measure(step, steps)
            batch = order[step * BATCH : (step + 1) * BATCH]
            optimizer.zero_grad()
            loss_of(model, images[batch], labels[batch], weights).backward()
            optimizer.step()


def _balance() -> np.ndarray:
    """Accuracy by class where the digits 0 to 4 are rare: every class alike, and weighed by how rare it is."""
    _, labels, test_images, test_labels = digits()
    random = np.random.default_rng(0)
    keep = (labels.numpy() >= RARE) | (random.random(len(labels)) < 0.05)
    chosen = np.flatnonzero(keep)
    counts = torch.bincount(labels[chosen], minlength=10)
    rows: list[dict[str, Any]] = []
    for name, weights in (("no weights", None), ("weights 1 / count", counts.sum() / (10 * counts.float()))):
        model = network()
        config = with_defaults(OptimConfig(name="momentum"))
        _steps(model, build_optimizer(model, config), chosen, weights=weights)
        with torch.no_grad():
            right = model(test_images).argmax(1) == test_labels
        rows += [
            {"digit": f"{i} ({counts[i]})", "accuracy": right[test_labels == i].float().mean().item(), "loss": name}
            for i in range(10)
        ]
    encoding = {
        "x": {"field": "digit", "type": "nominal", "title": "digit (training images)", "axis": {"labelAngle": 0}},
        "xOffset": {"field": "loss"},
        "y": {"field": "accuracy", "type": "quantitative", "title": "accuracy on test images"},
        "color": {"field": "loss", "type": "nominal", "title": None},
    }
    return chart({"data": {"values": rows}, "mark": "bar", "encoding": encoding, "width": 470, "height": 190}, 1.3)


def _lines(curves: Mapping[str, Sequence[float]], x: str, y: str, step: float, scale: str = "linear") -> np.ndarray:
    rows = [{"x": i * step, "y": v, "name": name} for name, values in curves.items() for i, v in enumerate(values)]
    encoding = {
        "x": {"field": "x", "type": "quantitative", "title": x},
        "y": {"field": "y", "type": "quantitative", "title": y, "scale": {"type": scale}},
        "color": {"field": "name", "type": "nominal", "title": None, "sort": list(curves)},
    }
    line = {"type": "line", "strokeWidth": 1.8, "clip": True}
    spec = {"data": {"values": rows}, "mark": line, "encoding": encoding, "width": 400, "height": 200}
    return sheet([("", chart(spec, 1.3))], 1)
