"""One-shot recognition: distances learned from random and from semi-hard triplets, on digits never trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from detect.models.losses.embeddings import MINING, same_person, squared_distances, triplet
from tools.drawing import chart, enlarged, shaded, sheet
from tools.small_problem import digits, network

KNOWN, STEPS, MARGIN = 7, 400, 0.2  # digits 0 to 6 are trained on, 7 to 9 are new


def draw() -> dict[str, np.ndarray]:
    """A triplet, the distances of new digits before and after, and how many triplets still teach something."""
    before, after = _trained("semi_hard", 0)[0], _trained("semi_hard", STEPS)[0]
    useful = {name: _trained(name, STEPS)[1] for name in ("random", "semi_hard")}
    return {"triplets": _one(), "triplets_distances": _distances(before, after), "triplets_useful": _useful(useful)}


def _trained(mining: str, steps: int) -> tuple[Tensor, list[float]]:
    """Vectors (N, 10) of test images of the new digits, and the share of triplets with a loss in each step."""
    images, labels, test_images, test_labels = digits()
    model, random = network(), np.random.default_rng(0)
    optimizer, shares = torch.optim.Adam(model.parameters(), lr=0.003), []
    places = [np.flatnonzero(labels.numpy() == digit) for digit in range(KNOWN)]
    for _ in range(steps):
        batch = np.concatenate([random.choice(place, 4, replace=False) for place in places])  # P = 7, K = 4
        vectors = normalize(model(images[batch]))
        near, far = MINING[mining](squared_distances(vectors.detach()), same_person(labels[batch]))
        shares.append((near - far + MARGIN > 0).float().mean().item())
        loss = triplet(vectors, labels[batch], MARGIN, mining)["triplet"]
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    with torch.no_grad():
        return normalize(model(test_images[test_labels >= KNOWN])), shares


def _one() -> np.ndarray:
    images, labels, *_ = digits()
    anchor, positive = (labels == 3).nonzero()[:2, 0].tolist()
    shown = {"anchor": anchor, "positive: the same": positive, "negative: another": int((labels == 5).nonzero()[0])}
    return sheet([(name, enlarged(shaded(images[i].reshape(8, 8)), 16)) for name, i in shown.items()], 3)


def _distances(before: Tensor, after: Tensor) -> np.ndarray:
    *_, labels = digits()
    same = same_person(labels[labels >= KNOWN])
    first, second = torch.triu_indices(len(same), len(same), 1)
    rows: list[dict[str, Any]] = []
    for when, vectors in (("untrained", before), ("trained on other digits", after)):
        between = squared_distances(vectors)[first, second]
        for name, chosen in (("same digit", same[first, second]), ("different", ~same[first, second])):
            counts, edges = np.histogram(between[chosen].numpy(), bins=40, range=(0, 4))
            rows += [
                {"distance": low, "share": count / counts.sum(), "pair": name, "when": when}
                for low, count in zip(edges[:-1].tolist(), counts.tolist(), strict=True)
            ]
    encoding = {
        "x": {"field": "distance", "type": "quantitative", "title": "squared distance of two images"},
        "y": {"field": "share", "type": "quantitative", "stack": None, "title": "share of pairs"},
        "color": {"field": "pair", "type": "nominal", "title": None},
        "column": {"field": "when", "type": "nominal", "title": None, "sort": ["untrained"]},
    }
    mark = {"type": "area", "opacity": 0.55, "interpolate": "step-after"}
    return chart({"data": {"values": rows}, "mark": mark, "encoding": encoding, "width": 230, "height": 180}, 1.3)


def _useful(shares: dict[str, list[float]]) -> np.ndarray:
    rows = [
        {"step": i, "share": float(np.mean(values[max(0, i - 10) : i + 10])), "mining": name.replace("_", "-")}
        for name, values in shares.items()
        for i in range(0, STEPS, 5)
    ]
    encoding = {
        "x": {"field": "step", "type": "quantitative"},
        "y": {"field": "share", "type": "quantitative", "title": "share of triplets with a loss"},
        "color": {"field": "mining", "type": "nominal", "title": "triplets"},
    }
    spec = {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding}
    return chart({**spec, "width": 400, "height": 170}, 1.3)
