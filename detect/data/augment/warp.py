"""Random rotation, shear, perspective and local warping of a training canvas: one map for pixels and geometry.

Coordinates are continuous: the centre of the first pixel is at (0.5, 0.5). The scene is what the canvas would show
without a warp. Axes: N boxes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import cv2
import numpy as np

from detect.config.augment import AugmentConfig
from detect.data.images import resize

CELLS = 4  # of the displacement field along each side of the canvas
KNOTS = CELLS + 3  # control points of a cubic B-spline over that many cells
OUTLINE = 64  # points on an ellipse: its bounding box is at most 0.12 % too narrow
TOLERANCE = 1e-3  # pixels: where the inversion of a displacement stops
HORIZON = 1e-3  # least divisor of a perspective: what lies behind the horizon ends far outside the canvas

SETTINGS = attrgetter("rotate", "shear", "perspective", "warp")  # of an AugmentConfig

_ANGLES = np.arange(OUTLINE) * (math.tau / OUTLINE)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True, eq=False)
class Warp:
    """A map from the points of a scene to those of a square canvas: a homography, then a smooth displacement.

    Args:
        size: side of the canvas in pixels.
        matrix: (3, 3) homography from the scene to the canvas.
        knots: (2, KNOTS, KNOTS) control points (xy, row, column) of a cubic B-spline, in pixels. The canvas shows at q
            what the homography puts at q + displacement(q). None: no displacement.
    """

    size: int
    matrix: np.ndarray
    knots: np.ndarray | None = None

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Return where points (…, 2) of the scene lie on the canvas, for keypoints, corners and polygons alike."""
        found = target = _projected(points, self.matrix)
        change = 0.0 if self.knots is None else np.inf
        while change > TOLERANCE:  # converges: AugmentConfig allows no displacement steeper than 0.8
            before, found = found, target - self.displacement(found)
            change = np.abs(found - before).max(initial=0.0)
        return found

    def backward(self, points: np.ndarray) -> np.ndarray:
        """Return which points of the scene the canvas shows at (…, 2): the inverse of `forward`."""
        return _projected(points + self.displacement(points), np.linalg.inv(self.matrix))

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """Return the displacement (…, 2) at canvas points (…, 2); outside the canvas, that of its nearest edge."""
        if self.knots is None:
            return np.zeros_like(points)
        across, down = (_weights(points[..., axis] / self.size) for axis in (0, 1))
        return np.stack([np.einsum("...k,...k->...", down @ knots, across) for knots in self.knots], axis=-1)

    def boxes(
        self, boxes: np.ndarray, low: np.ndarray | float = -np.inf, high: np.ndarray | float = np.inf
    ) -> np.ndarray:
        """Return the bounding boxes (N, 4) xyxy on the canvas of the ellipses in boxes (N, 4) of the scene.

        The ellipse in a box hugs most objects better than its corners do. `low` and `high` (N, 2) are the corners of
        the rectangles in which the objects are seen: their ellipses are cut off there.
        """
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        edges = (np.broadcast_to(edge, middle.shape)[:, None] for edge in (low, high))
        outlines = self.forward(np.clip(middle[:, None] + half[:, None] * _CIRCLE, *edges))
        return np.concatenate([outlines.min(axis=1), outlines.max(axis=1)], axis=1)

    def draw(self, canvas: np.ndarray, image: np.ndarray, zoom: float, corner: tuple[float, float]) -> None:
        """Draw an image (h, w, 3), enlarged `zoom` times with its top left corner at the scene point `corner`.

        One bilinear sampling does it all; an image that shrinks below half its size is averaged first, as bilinear
        sampling would skip pixels. Canvas pixels outside the image stay as they are.
        """
        sides = np.array(image.shape[1::-1])
        shown = sides * zoom
        if zoom < 0.5:
            image = resize(image, *np.rint(shown).astype(int).clip(1).tolist())
        x_scale, y_scale = shown / image.shape[1::-1]
        matrix = self.matrix @ [[x_scale, 0, corner[0]], [0, y_scale, corner[1]], [0, 0, 1]]
        x0, y0, x1, y1 = self._reached(np.array(corner), shown)
        if x0 >= x1 or y0 >= y1:
            return
        part = canvas[y0:y1, x0:x1]
        if self.knots is None:  # matrices of OpenCV map indices, which are 0 at the centre of the first pixel
            matrix = _shift(-0.5 - x0, -0.5 - y0) @ matrix @ _shift(0.5, 0.5)
            size = x1 - x0, y1 - y0
            cv2.warpPerspective(image, matrix, size, part, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
        else:
            indices = cv2.perspectiveTransform(self._before[y0:y1, x0:x1], _shift(-0.5, -0.5) @ np.linalg.inv(matrix))
            one: Any = None  # map of x and y, not two
            cv2.remap(image, indices, one, cv2.INTER_LINEAR, part, cv2.BORDER_TRANSPARENT)

    def _reached(self, corner: np.ndarray, sides: np.ndarray) -> list[int]:
        """A part of the canvas, x0, y0, x1, y1, outside which nothing of that rectangle of the scene is shown."""
        corners = _projected(corner + sides * [[0, 0], [1, 0], [0, 1], [1, 1]], self.matrix)
        margin = 1 + (0.0 if self.knots is None else np.abs(self.knots).max())
        edges = np.floor(corners.min(axis=0) - margin), np.ceil(corners.max(axis=0) + margin)
        return np.concatenate(edges).clip(0, self.size).astype(int).tolist()

    @cached_property
    def _before(self) -> np.ndarray:
        """(size, size, 2) float32: where the homography puts what the centre of each pixel shows."""
        assert self.knots is not None
        weights = _weights((np.arange(self.size) + 0.5) / self.size).astype(np.float32)
        still = np.arange(-1, CELLS + 2) * (self.size / CELLS)  # a spline through these is the identity
        knots = (self.knots + np.stack(np.meshgrid(still, still))).astype(np.float32)
        moved = np.empty((self.size, self.size, 2), np.float32)
        for axis in (0, 1):
            moved[..., axis] = weights @ knots[axis] @ weights.T
        return moved


def random_warp(size: int, config: AugmentConfig, rng: np.random.Generator) -> Warp:
    """Draw a warp of a canvas of `size`, about its middle. Needed where any of `SETTINGS` is not 0."""
    angle, *slants = np.radians(rng.uniform(-1.0, 1.0, 3) * (config.rotate, config.shear, config.shear)).tolist()
    cos, sin, (a, b) = math.cos(angle), math.sin(angle), map(math.tan, slants)
    x, y = -rng.uniform(-1.0, 1.0, 2) * config.perspective / (size / 2)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shear = np.array([[1, a, 0], [0, 1, 0], [0, 0, 1]]) @ [[1, 0, 0], [b, 1, 0], [0, 0, 1]]
    middle = size / 2
    matrix = _shift(middle, middle) @ [[1, 0, 0], [0, 1, 0], [x, y, 1]] @ shear @ turn @ _shift(-middle, -middle)
    knots = rng.uniform(-1.0, 1.0, (2, KNOTS, KNOTS)) * config.warp * size if config.warp else None
    return Warp(size, matrix, knots)


def _projected(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (…, 2) through a homography (3, 3)."""
    found = points @ matrix[:, :2].T + matrix[:, 2]
    return found[..., :2] / np.maximum(found[..., 2:], HORIZON)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _weights(places: np.ndarray) -> np.ndarray:
    """(…, KNOTS): the share of each control point at places (…) from 0 to 1 along a side."""
    away = np.abs(places.clip(0, 1)[..., None] * CELLS - np.arange(-1, CELLS + 2))
    near, nearest = (2 - away).clip(0), (1 - away).clip(0)
    return (near * near * near - 4 * nearest * nearest * nearest) / 6
