"""Padding: none (valid), the same size (same), the asymmetric one of even filters, and what it does to the border."""

from __future__ import annotations

import numpy as np

from detect.explain.edges import filter_image
from tools.drawing import Tile, numbers, photograph, shaded, sheet

IMAGE = np.array([[3, 0, 1, 2, 7, 4], [1, 5, 8, 9, 3, 1], [2, 7, 2, 5, 1, 3]] * 2)
IMAGE[3:] = [[0, 1, 3, 1, 7, 8], [4, 2, 1, 6, 2, 8], [2, 4, 5, 2, 3, 9]]
LAYERS = 20


def draw() -> dict[str, np.ndarray]:
    """The three kinds as numbers, how often each pixel counts, and a photograph after many layers of each kind."""
    return {"padding": sheet([*_kind(3, 0, 0), *_kind(3, 1, 1), *_kind(4, 1, 2)], 3), "padding_border": _border()}


def _kind(side: int, before: int, after: int) -> list[Tile]:
    """The padded image, what a filter of ones with its mean makes of it, and how often each pixel was used."""
    padded = np.pad(IMAGE, (before, after))
    muted = np.pad(np.zeros(IMAGE.shape, dtype=bool), (before, after), constant_values=True)
    filtered = filter_image(padded, np.ones((side, side)))
    n = len(filtered)
    used = np.zeros(padded.shape)
    for y, x in np.ndindex(n, n):
        used[y : y + side, x : x + side] += 1
    used = used[before : before + len(IMAGE), before : before + len(IMAGE)]
    name = (
        "valid, p = 0" if not after else f"same, p = {before}" if before == after else f"same, p = {before} and {after}"
    )
    return [
        (f"{name}: {len(padded)} × {len(padded)}", numbers(padded, 30, muted=muted)),
        (f"sums of {side} × {side}: {n} × {n}", numbers(filtered, 30)),
        ("how often each pixel counts", numbers(used, 30)),
    ]


def _border() -> np.ndarray:
    """The photograph after twenty 3 x 3 means with and without padding."""
    photo = photograph("china", 240)
    valid = same = photo.mean(2)
    mean = np.full((3, 3), 1 / 9)
    for _ in range(LAYERS):
        valid, same = filter_image(valid, mean), filter_image(same, mean, padding="same")
    sizes = [f"{one.shape[1]} × {one.shape[0]}" for one in (photo, valid, same)]
    tiles = [("photograph", photo), (f"{LAYERS} layers, valid", shaded(valid, top=255))]
    tiles.append((f"{LAYERS} layers, same", shaded(same, top=255)))
    return sheet([(f"{name}\n{size}", image) for (name, image), size in zip(tiles, sizes, strict=True)], 3)
