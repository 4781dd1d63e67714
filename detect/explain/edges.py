"""Fixed edge filters as layers, to compare learned filters with.

Like layers of networks they correlate: the filter is not flipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from detect.errors import unknown

_ACROSS = torch.tensor([1.0, 0.0, -1.0])  # bright on the left, dark on the right
_ALONG = {"plain": (1.0, 1.0, 1.0), "sobel": (1.0, 2.0, 1.0), "scharr": (3.0, 10.0, 3.0)}
_FILTERS = {name: torch.outer(torch.tensor(rows), _ACROSS) for name, rows in _ALONG.items()}
EDGES = {"vertical": _FILTERS["plain"], "horizontal": _FILTERS["plain"].T} | {
    f"{name}_{way}": filter_
    for name in ("sobel", "scharr")
    for way, filter_ in (("vertical", _FILTERS[name]), ("horizontal", _FILTERS[name].T))
}


def edges(name: str, mix: Sequence[float] = (1.0,), padding: int = 0) -> nn.Conv2d:
    """A 3x3 edge filter as a layer (B, C, H, W) -> (B, 1, H', W') with frozen weights.

    Args:
        name: a key of EDGES.
        mix: the weight of each of the C channels: (1, 0, 0) takes red alone, thirds the mean of three.
        padding: pixels by which the border is repeated.

    Raises:
        UserError: there is no filter of that name.
    """
    if name not in EDGES:
        raise unknown("edge filter", name, EDGES)
    layer = nn.Conv2d(len(mix), 1, 3, padding=padding, padding_mode="replicate", bias=False)
    layer.weight = nn.Parameter(torch.tensor(mix)[None, :, None, None] * EDGES[name], requires_grad=False)
    return layer


def edge_similarity(filters: Tensor) -> Tensor:
    """The cosine similarity (F, E) of filters (F, C, h, w), averaged over channels, with each of EDGES at that size.

    1: the same edge filter; -1: that of the opposite edge; 0: unrelated.
    """
    fixed = interpolate(torch.stack(list(EDGES.values()))[None], filters.shape[2:], mode="bilinear", align_corners=True)
    learned, edges = filters.detach().float().cpu().mean(1).flatten(1), fixed[0].flatten(1)
    return normalize(learned, dim=1) @ normalize(edges, dim=1).mT
