"""Naive twin of a Warp: pixel by pixel, in Python's floats, from the control points to the sampled colour."""

import math

import numpy as np


def spline(x):
    """The cubic B-spline kernel, piece by piece."""
    x = abs(x)
    if x < 1:
        return 2 / 3 - x**2 + x**3 / 2
    return (2 - x) ** 3 / 6 if x < 2 else 0.0


def displacement(knots, size, x, y):
    """What a canvas point (x, y) is moved by before the homography is undone."""
    cells = knots.shape[1] - 3
    u, v = (min(max(value / size, 0.0), 1.0) * cells for value in (x, y))
    moved = [0.0, 0.0]
    for row in range(knots.shape[1]):
        for column in range(knots.shape[2]):
            weight = spline(v - (row - 1)) * spline(u - (column - 1))
            for axis in (0, 1):
                moved[axis] += weight * knots[axis, row, column]
    return moved


def shown(warp, x, y):
    """The scene point that the canvas shows at (x, y)."""
    dx, dy = displacement(warp.knots, warp.size, x, y) if warp.knots is not None else (0.0, 0.0)
    a, b, c = np.linalg.solve(warp.matrix, [x + dx, y + dy, 1.0])
    return a / c, b / c


def colour(image, x, y):
    """Bilinear between the four nearest centres; None outside the image."""
    height, width = image.shape[:2]
    if not (0.5 <= x <= width - 0.5 and 0.5 <= y <= height - 0.5):
        return None
    left, top = min(math.floor(x - 0.5), width - 2), min(math.floor(y - 0.5), height - 2)
    s, t = x - 0.5 - left, y - 0.5 - top
    found = 0.0
    for row, down in ((top, 1 - t), (top + 1, t)):
        for column, across in ((left, 1 - s), (left + 1, s)):
            found += down * across * float(image[row, column, 0])
    return found


def draw(image, warp, zoom, corner):
    """(size, size) what the canvas shows of the first channel of an image; NaN where that is not the image, wholly."""
    canvas = np.full((warp.size, warp.size), np.nan)
    for row in range(warp.size):
        for column in range(warp.size):
            x, y = shown(warp, column + 0.5, row + 0.5)
            found = colour(image, (x - corner[0]) / zoom, (y - corner[1]) / zoom)
            canvas[row, column] = np.nan if found is None else found
    return canvas
