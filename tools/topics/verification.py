"""Verification and a gallery: are two images of one identity, and whose is this?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from detect.evaluation.verification import all_pairs, threshold
from detect.models.losses.embeddings import triplet
from tools.drawing import chart, enlarged, shaded, sheet
from tools.small_problem import digits, network


def draw() -> dict[str, np.ndarray]:
    """Errors of a verifier at every threshold, and questions with the gallery's answers."""
    vectors = embedded()
    *_, labels = digits()
    pairs = all_pairs(labels.numpy())
    distances = (vectors[pairs.first] - vectors[pairs.second]).square().sum(1).numpy()
    return {"verification": _errors(distances, pairs.same), "verification_gallery": _gallery(vectors, labels)}


def embedded(steps: int = 400) -> Tensor:
    """Vectors (397, 10) of the test images by a network trained with triplets on all ten digits."""
    images, labels, test_images, _ = digits()
    model, random = network(), np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    places = [np.flatnonzero(labels.numpy() == digit) for digit in range(10)]
    for _ in range(steps):
        batch = np.concatenate([random.choice(place, 4, replace=False) for place in places])
        loss = triplet(normalize(model(images[batch])), labels[batch], 0.2, "semi_hard")["triplet"]
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    with torch.no_grad():
        return normalize(model(test_images))


def _errors(distances: np.ndarray, same: np.ndarray) -> np.ndarray:
    rows = []
    for limit in np.linspace(0, 2, 81):
        accepted = distances <= limit
        rows.append({"threshold": limit, "share": float(accepted[~same].mean()), "error": "strangers accepted"})
        rows.append({"threshold": limit, "share": float((~accepted[same]).mean()), "error": "the same rejected"})
    encoding = {
        "x": {"field": "threshold", "type": "quantitative", "title": "threshold of the squared distance"},
        "y": {"field": "share", "type": "quantitative", "title": "share of pairs"},
        "color": {"field": "error", "type": "nominal", "title": None},
    }
    lines = {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding}
    best = {
        "data": {"values": [{"x": threshold(distances, same), "text": "most accurate"}]},
        "mark": {"type": "rule", "strokeDash": [4, 4]},
        "encoding": {"x": {"field": "x", "type": "quantitative"}},
    }
    return chart({"layer": [lines, best], "width": 400, "height": 190}, 1.3)


def _gallery(vectors: Tensor, labels: Tensor) -> np.ndarray:
    _, _, images, _ = digits()
    enrolled = [int((labels == digit).nonzero()[0]) for digit in range(10)]  # one image of each identity
    tiles = [(f"gallery: {digit}", _shown(images[i])) for digit, i in enumerate(enrolled)]
    asked = [int((labels == digit).nonzero()[5]) for digit in range(10)]
    for i in asked:
        distance = (vectors[i] - vectors[enrolled]).square().sum(1)
        tiles.append((f"{int(distance.argmin())} at {distance.min():.2f}", _shown(images[i])))
    return sheet(tiles, 10)


def _shown(image: Tensor) -> np.ndarray:
    return enlarged(shaded(image.reshape(8, 8)), 8)
