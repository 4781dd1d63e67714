"""One image, a mini-batch, or all images a step: the same network, the same number of images seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tools.drawing import chart
from tools.small_problem import digits, loss_of, network

EPOCHS = 6
SIZES = {"one image": (1, 0.005), "32 images": (32, 0.1), "all 1,400 images": (1400, 0.5)}  # and learning rates


def draw() -> dict[str, np.ndarray]:
    """The loss over the images seen, and the path of the loss in the first epoch."""
    rows = [row for name in SIZES for row in _train(name)]
    first = [row for row in rows if row["epoch"] <= 1.0 and row["size"] != "all 1,400 images"]
    return {
        "batches": _chart(rows, "test loss", "loss on 397 other images"),
        "batches_steps": _chart(first, "loss", ""),
    }


def _train(name: str) -> list[dict[str, Any]]:
    size, rate = SIZES[name]
    images, labels, test_images, test_labels = digits()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    random, every = np.random.default_rng(0), max(1, 1400 // size // 40)
    rows: list[dict[str, Any]] = []
    for epoch in range(EPOCHS):
        order = random.permutation(len(images))
        for step, start in enumerate(range(0, len(images), size)):
            chosen = order[start : start + size]
            optimizer.zero_grad()
            loss = loss_of(model, images[chosen], labels[chosen])
            loss.backward()
            optimizer.step()
            if step % every == 0:
                with torch.no_grad():
                    test = loss_of(model, test_images, test_labels).item()
                seen = epoch + (start + len(chosen)) / len(images)
                rows.append({"epoch": seen, "loss": loss.item(), "test loss": test, "size": name})
    return rows


def _chart(rows: list[dict[str, Any]], field: str, title: str) -> np.ndarray:
    encoding = {
        "x": {"field": "epoch", "type": "quantitative", "title": "epochs: each image seen once"},
        "y": {"field": field, "type": "quantitative", "title": title or "loss of each step's batch"},
        "color": {"field": "size", "type": "nominal", "title": "a step", "sort": list(SIZES)},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 1.8}, "encoding": encoding}
    return chart({**spec, "width": 400, "height": 210})
