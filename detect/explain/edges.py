"""Fixed edge filters as layers, to compare learned filters with; any filter on any image.

Like layers of networks they correlate: the filter is not flipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, normalize, pad

from detect.errors import UserError, unknown

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


def filter_image(
    image: Any,
    kernel: str | Any,
    mix: Sequence[float] | None = None,
    padding: Literal["valid", "same"] = "valid",
    stride: int = 1,
) -> np.ndarray:
    """Correlate an image with one filter.

    Args:
        image: (H, W) or (H, W, C), an array, tensor or nested list of numbers of any range.
        kernel: a key of EDGES, or the filter's own numbers (h, w).
        mix: the weight of each channel; default: their mean. (1, 0, 0) filters red alone.
        padding: "valid": none. "same": zeros, so that at stride 1 the size stays; those of an even side do not divide
            in two, and the extra zero is at the right and bottom.
        stride: pixels from one place of the filter to the next.

    Returns:
        (H', W') float32: side floor((n + padding - f) / stride) + 1.

    Raises:
        UserError: there is no filter of that name, the shapes do not fit, or the filter is larger than the image.
    """
    if isinstance(kernel, str) and kernel not in EDGES:
        raise unknown("edge filter", kernel, EDGES)
    weights = EDGES[kernel] if isinstance(kernel, str) else torch.as_tensor(kernel, dtype=torch.float32)
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = pixels.shape[-1]
    shares = torch.tensor([1 / channels] * channels if mix is None else list(mix), dtype=torch.float32)
    if weights.ndim != 2 or pixels.ndim != 3 or len(shares) != channels:
        shapes = f"the image is {tuple(pixels.shape)}, the filter {tuple(weights.shape)}, the mix {len(shares)}"
        raise UserError(f"{shapes}: give an image (H, W, C), a filter (h, w) and a weight for each of the C channels")
    plane = (pixels @ shares)[None, None]
    if padding == "same":
        (above, below), (left, right) = (((side - 1) // 2, side // 2) for side in weights.shape)
        plane = pad(plane, (left, right, above, below))
    if plane.shape[2] < weights.shape[0] or plane.shape[3] < weights.shape[1]:
        raise UserError(f"a filter of {tuple(weights.shape)} does not fit into an image of {tuple(plane.shape[2:])}")
    return conv2d(plane, weights[None, None], stride=stride)[0, 0].numpy()


def edge_similarity(filters: Tensor) -> Tensor:
    """The cosine similarity (F, E) of filters (F, C, h, w), averaged over channels, with each of EDGES at that size.

    1: the same edge filter; -1: that of the opposite edge; 0: unrelated.
    """
    fixed = interpolate(torch.stack(list(EDGES.values()))[None], filters.shape[2:], mode="bilinear", align_corners=True)
    learned, edges = filters.detach().float().cpu().mean(1).flatten(1), fixed[0].flatten(1)
    return normalize(learned, dim=1) @ normalize(edges, dim=1).mT
