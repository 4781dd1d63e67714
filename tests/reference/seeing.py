"""Seeing inside as plain loops: the cells that fire most, and class-activation maps."""

from typing import Any


def strongest(maps: list[Any], inside: Any, channel: int, most: int) -> list[tuple[float, int, int, int]]:
    """(value, image, row, column) of the strongest cell inside each map (C, H, W); the best of them."""
    best = []
    for image, one in enumerate(maps):
        found = None
        for row, line in enumerate(one[channel]):
            for column, value in enumerate(line):
                if inside(row, column) and (found is None or value > found[0]):
                    found = (value, image, row, column)
        if found is not None:
            best.append(found)
    return sorted(best, key=lambda cell: (-cell[0], cell[1]))[:most]


def grad_cam(maps: Any, gradients: Any, local: bool) -> list[list[float]]:
    """Weights times maps (K, H, W), summed over K, where that is positive; a weight a channel, or a cell."""
    rows, columns = len(maps[0]), len(maps[0][0])
    heat = [[0.0] * columns for _ in range(rows)]
    for one, gradient in zip(maps, gradients, strict=True):
        mean = sum(map(sum, gradient)) / (rows * columns)
        for i in range(rows):
            for j in range(columns):
                heat[i][j] += one[i][j] * (gradient[i][j] if local else mean)
    return [[max(0.0, value) for value in line] for line in heat]
