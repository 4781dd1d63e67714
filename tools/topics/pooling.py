"""Pooling: the maximum or the mean of each window, as numbers and on a photograph."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from tools.drawing import enlarged, numbers, photograph, sheet

IMAGE = np.array([[1, 3, 2, 1], [2, 9, 1, 1], [1, 3, 2, 3], [5, 6, 1, 2]])


def draw() -> dict[str, np.ndarray]:
    """Both kinds on a 4 x 4 image, on a photograph, and of an edge map."""
    return {"pooling": _by_hand(), "pooling_photo": _photo()}


def _by_hand() -> np.ndarray:
    x = torch.tensor(IMAGE, dtype=torch.float32)[None]
    tiles = [
        ("4 × 4", numbers(IMAGE, 44)),
        ("max, f = 2, s = 2", numbers(max_pool2d(x, 2)[0], 44)),
        ("mean, f = 2, s = 2", numbers(avg_pool2d(x, 2)[0], 44, digits=2)),
        ("max, f = 3, s = 1", numbers(max_pool2d(x, 3, 1)[0], 44)),
        ("mean of all", numbers(x.mean((1, 2))[None], 44, digits=2)),
    ]
    return sheet(tiles, 5)


def _photo() -> np.ndarray:
    """Both kinds at three sizes, enlarged to the size of the photograph."""
    photo = photograph("flower")[83:403, 148:468]
    x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    tiles, whole = [], ("320 × 320", photo[::2, ::2])
    for name, pool in (("max", max_pool2d), ("mean", avg_pool2d)):
        for size in (4, 8, 16):
            pooled = pool(x, size)[0].permute(1, 2, 0).round().byte().numpy()
            shape = " × ".join(map(str, pooled.shape[:2]))
            tiles.append((f"{name}, f = s = {size}: {shape}", enlarged(pooled, size)[::2, ::2]))
    return sheet([whole, *tiles[:3], whole, *tiles[3:]], 4)
