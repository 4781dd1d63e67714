"""Edge filters: fixed ones, one that is learned, lines of 7 x 7, and any other on any image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from detect.explain.edges import EDGES, filter_image
from tools.drawing import Tile, enlarged, numbers, photograph, shaded, sheet

STEPS = 300
HALVES = np.repeat([[10.0, 10, 10, 0, 0, 0]], 6, axis=0)  # bright on the left


def draw() -> dict[str, np.ndarray]:
    """A filter cell by cell, the fixed filters on a photograph, a filter while it learns, and other filters."""
    return {"edges": _by_hand(), "edges_photo": _fixed(), "edges_learned": _learned(), "edges_any": _others()}


def _by_hand() -> np.ndarray:
    """A 6 x 6 image, the vertical filter, and what it makes of the image and of its mirror image."""
    tiles = []
    for name, image in (("image 6 × 6", HALVES), ("its mirror image", HALVES[:, ::-1])):
        tiles += [
            (name, numbers(image)),
            ("as grey levels", enlarged(shaded(image), 34)),
            ("filter 3 × 3", numbers(EDGES["vertical"])),
            ("output 4 × 4", numbers(filter_image(image, "vertical"))),
            ("0 is grey", enlarged(shaded(filter_image(image, "vertical"), signed=True), 34)),
        ]
    return sheet(tiles, 5)


def _fixed() -> np.ndarray:
    """Both directions of the three kinds on the middle of the photograph."""
    photo = photograph("china")[40:320, 60:360]
    tiles: list[Tile] = [("photograph", photo)]
    for way in ("vertical", "horizontal"):
        for kind in ("", "sobel_", "scharr_"):
            name = f"{kind}{way}"
            tiles.append((name, shaded(filter_image(photo, name), signed=True)))
    rest = [("filter " + name, numbers(EDGES[name].numpy(), 60)) for name in ("sobel_vertical", "scharr_vertical")]
    return sheet([tiles[0], *rest, *tiles[1:]], 3)


def learn(pairs: int = 64) -> list[np.ndarray]:
    """A 3 x 3 filter at each step of its training on noise and the vertical edges of that noise."""
    images = torch.randn(pairs, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    layer, target = torch.nn.Conv2d(1, 1, 3, bias=False), EDGES["vertical"][None, None]
    edges = torch.nn.functional.conv2d(images, target)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.02)
    filters = []
    for _ in range(STEPS):
        filters.append(layer.weight.detach()[0, 0].clone().numpy())
        optimizer.zero_grad()
        (layer(images) - edges).square().mean().backward()
        optimizer.step()
    return filters


def _learned() -> np.ndarray:
    filters = learn()
    steps = (0, 10, 30, 100, STEPS - 1)
    return sheet([(f"step {step}", numbers(filters[step], 50, digits=2)) for step in steps], 5)


def _others() -> np.ndarray:
    """Lines of 7 x 7 on both photographs, and two other filters."""
    line = np.zeros((7, 7))
    line[:, 3] = 1
    others: dict[str, Any] = {
        "7 × 7, a vertical line of ones": line,
        "7 × 7, a horizontal line of ones": line.T,
        "sharpen: 5 in the middle, −1 around": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
        "blur: 9 × 9 of 1/81": np.full((9, 9), 1 / 81),
    }
    tiles = []
    for caption, kernel in others.items():
        most = 255 * max(1, np.sum(kernel))
        for name in ("china", "flower"):
            photo = photograph(name, 380)
            tiles.append((caption, shaded(filter_image(photo, kernel, padding="same").clip(0, most))))
    return sheet(tiles, 2)
