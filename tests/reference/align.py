"""Alignment of points, by formulas written out."""

import numpy as np


def turned(points: np.ndarray, angle: float, size: float, shift: tuple[float, float]) -> np.ndarray:
    """Points (K, 2) turned by an angle, scaled and shifted."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[size * (cos * x - sin * y) + shift[0], size * (sin * x + cos * y) + shift[1]] for x, y in points])


def brought(points: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Points (K, 2) as large as the shape (K, 2), at its middle, turned by the best of very many angles."""
    middle, expected = points.mean(0), shape.mean(0)
    size = np.sqrt(((shape - expected) ** 2).sum() / ((points - middle) ** 2).sum())
    tries = [turned((points - middle) * size, a, 1, tuple(expected)) for a in np.linspace(0, 2 * np.pi, 7201)]
    return min(tries, key=lambda one: ((one - shape) ** 2).sum())
