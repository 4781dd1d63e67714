"""Sliding windows: a classifier at every place, in one pass of convolutions instead of one pass for each crop."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from tools.drawing import enlarged, shaded, sheet
from tools.small_problem import convolutional, digits, loss_of, network

SIDE, WINDOW, WANTED = 40, 8, 3  # pixels of the scene and of a window, and the digit that is looked for
PLACES = ((4, 3, 3), (25, 5, 8), (15, 26, 3), (30, 28, 0))  # x, y and digit


def draw() -> dict[str, np.ndarray]:
    """The scene with some windows, and the score of one digit at every place, from crops and from one pass."""
    scene, model = make_scene(), trained()
    scores = convolutional(model)(scene[None, None])[0].softmax(0)[WANTED].detach()
    crops = scene.unfold(0, WINDOW, 1).unfold(1, WINDOW, 1).reshape(-1, WINDOW * WINDOW)
    by_crops = model(crops).softmax(1)[:, WANTED].detach().reshape(scores.shape)
    assert (scores - by_crops).abs().max() < 1e-4
    picture = enlarged(shaded(scene), 6)
    for i, (x, y) in enumerate(((0, 0), (1, 0), (2, 0), (0, 1), (4, 3), (15, 26))):
        color = (255, 127, 14) if i > 3 else (31, 119, 180)
        cv2.rectangle(picture, (6 * x, 6 * y), (6 * (x + WINDOW) - 1, 6 * (y + WINDOW) - 1), color, 2)
    tiles = [("40 × 40 pixels, windows of 8 × 8", picture)]
    tiles += [(f"score of {WANTED}: 33 × 33 crops", enlarged(shaded(by_crops), 6))]
    tiles += [("the same from one pass", enlarged(shaded(scores), 6))]
    return {"sliding": sheet(tiles, 3)}


def make_scene() -> Tensor:
    """A dark image (40, 40) with four digits of the test set."""
    _, _, images, labels = digits()
    scene = torch.zeros(SIDE, SIDE)
    for x, y, digit in PLACES:
        scene[y : y + WINDOW, x : x + WINDOW] = images[(labels == digit).nonzero()[1, 0]].reshape(WINDOW, WINDOW)
    return scene


def trained() -> nn.Sequential:
    """The small network, trained on digits and on windows that show none, or only a part."""
    images, labels, *_ = digits()
    squares, model = images.reshape(-1, WINDOW, WINDOW), network(width=64, outputs=11)
    optimizer, random = torch.optim.Adam(model.parameters(), lr=0.005), np.random.default_rng(0)
    for _ in range(2000):
        batch = torch.from_numpy(random.integers(0, len(images), 32))
        shifted = torch.zeros(32, 3 * WINDOW, 3 * WINDOW)
        shifted[:, WINDOW : 2 * WINDOW, WINDOW : 2 * WINDOW] = squares[batch]
        while max(abs(y := random.integers(-8, 9)), abs(x := random.integers(-8, 9))) < 2:
            pass  # a digit that is almost in the middle is one
        parts = shifted[:, 8 + y : 16 + y, 8 + x : 16 + x].reshape(32, -1)
        optimizer.zero_grad()
        both = torch.cat([squares[batch].reshape(32, -1), parts])
        loss_of(model, both, torch.cat([labels[batch], torch.full((32,), 10)])).backward()
        optimizer.step()
    return model
