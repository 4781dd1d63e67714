"""The naive twin of grouping regions: every pair is compared again at every step, in plain Python."""

from itertools import product

import numpy as np


def grouped(masks: list[np.ndarray], looks: list[np.ndarray]) -> list[list[int]]:
    """The boxes of regions (H, W) bool and of what they become, in the order in which they are made."""
    area = masks[0].size
    alive = dict(enumerate(zip(masks, looks, strict=True)))
    boxes = [box(mask) for mask in masks]
    while True:
        best = None
        for i, j in product(sorted(alive), repeat=2):
            if i < j and touch(alive[i][0], alive[j][0]):
                value = alike(*alive[i], *alive[j], area)
                if best is None or value > best[0]:
                    best = value, i, j
        if best is None:
            return boxes
        (one, look), (other, more) = alive.pop(best[1]), alive.pop(best[2])
        mean = (one.sum() * look + other.sum() * more) / (one.sum() + other.sum())
        alive[len(boxes)] = one | other, mean
        boxes.append(box(one | other))


def alike(one: np.ndarray, look: np.ndarray, other: np.ndarray, more: np.ndarray, area: int) -> float:
    """Equations 1 to 4 of Uijlings et al. (2013), summed; the histograms of colour and texture are one row."""
    x0, y0, x1, y1 = box(one | other)
    both = one.sum() + other.sum()
    fill = 1 - ((x1 - x0) * (y1 - y0) - both) / area
    value = sum(min(a, b) for a, b in zip(look, more, strict=True)) + (1 - both / area) + fill
    return round(float(value), 9)  # equal pairs are equal, in whatever order their terms are added


def box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def touch(one: np.ndarray, other: np.ndarray) -> bool:
    places = set(map(tuple, np.argwhere(other).tolist()))
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return any((y + dy, x + dx) in places for y, x in np.argwhere(one).tolist() for dy, dx in steps)
