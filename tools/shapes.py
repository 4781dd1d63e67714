"""The shapes of labelling programs as outlines of one object; for `tools/labelling.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from detect.data.outlines import Outlines

AROUND = 64  # corners of the polygon for a circle or an ellipse


class Shape(NamedTuple):
    """One object: how messages call it, and what makes its class and outline of it, or raises ValueError."""

    where: str
    make: Callable[[], tuple[str, Outlines]]


class Labelled(NamedTuple):
    """One image: its names, the likeliest first, its (h, w) if the export says it, and its objects."""

    names: list[str]
    size: tuple[int, int] | None
    shapes: Iterator[Shape]


def polygon(points: Any) -> Outlines:
    """Return the outline of points (V, 2)."""
    ring = np.asarray(points, np.float64).reshape(-1, 2)
    if len(ring) < 3:
        raise ValueError(f"has a polygon of {len(ring)} points; a polygon takes three or more")
    return Outlines.of_polygons([[ring]])


def rectangle(x: float, y: float, w: float, h: float, degrees: float = 0.0) -> Outlines:
    """Return the outline of a rectangle, turned clockwise around its corner at x, y."""
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    return polygon(corners @ _turn(degrees) + np.array([x, y]))


def ellipse(x: float, y: float, across: float, down: float, degrees: float = 0.0) -> Outlines:
    """Return the outline, of many corners, of an ellipse around x, y of these radii, turned clockwise."""
    angles = np.linspace(0, 2 * math.pi, AROUND, endpoint=False)
    across_down = np.stack([across * np.cos(angles), down * np.sin(angles)], 1)
    return polygon(across_down @ _turn(degrees) + np.array([x, y]))


def _turn(degrees: float) -> np.ndarray:
    """What points (V, 2) are multiplied by to turn them clockwise on the screen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])
