"""How fast tracks move, in pixels or on the ground: a homography from pixels to metres, and speeds over a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence

import numpy as np

from detect.errors import UserError

SPAN = 1.0  # seconds over which a speed is measured: a box trembles by a pixel or two from frame to frame
LEAST = 0.2  # seconds that a track must be seen for before it has a speed
_POINTS = {"left": 0.0, "center": 0.5, "right": 1.0, "top": 0.0, "bottom": 1.0}


def points_of(boxes: np.ndarray, point: str) -> np.ndarray:
    """A point (N, 2) of each box (N, 4) xyxy.

    Args:
        boxes: in pixels.
        point: center; left, right, top or bottom, the middle of that side; or a corner, such as bottom_left.
    """
    words = point.split("_")
    across = next((_POINTS[word] for word in words if word in ("left", "right")), 0.5)
    down = next((_POINTS[word] for word in words if word in ("top", "bottom")), 0.5)
    return np.asarray(boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * [across, down])


def homography(rows: Sequence[Sequence[float]]) -> np.ndarray | None:
    """The matrix (3, 3) from pixels to metres on the ground; None for no rows.

    Args:
        rows: four or more (x, y, X, Y), the pixel of a place and its position in metres; or the matrix itself.

    Raises:
        UserError: they are neither, or three of four places lie on a line.
    """
    if not rows:
        return None
    values = [list(row) for row in rows]
    if len(values) == 3 and all(len(row) == 3 for row in values):
        matrix = np.array(values, float)
    elif len(values) >= 4 and all(len(row) == 4 for row in values):
        pairs = np.array(values, float)
        matrix = _from_pairs(pairs[:, :2], pairs[:, 2:])
    else:
        raise UserError(
            f"--homography has {values}: give four or more places as [x, y, X, Y], pixels and metres, or a 3 x 3 matrix"
        )
    if not matrix.any() or np.linalg.cond(matrix) > 1e12:
        raise UserError(f"--homography has {values}: three of the places lie on a line, or it has no inverse")
    return matrix


def _from_pairs(pixels: np.ndarray, metres: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) that maps points (N, 2) to others by least squares: the direct linear transformation.

    The last coordinate of the points is positive, so that it is negative behind the horizon. Zeros where the points do
    not settle the matrix. Reference: Hartley and Zisserman, Multiple View Geometry, algorithm 4.2.
    """
    if min(np.ptp(pixels, axis=0).min(), np.ptp(metres, axis=0).min()) <= 0:
        return np.zeros((3, 3))
    (a, to_a), (b, to_b) = _normalized(pixels), _normalized(metres)
    zeros = np.zeros_like(a)
    rows = np.vstack([np.hstack([a, zeros, -b[:, :1] * a]), np.hstack([zeros, a, -b[:, 1:2] * a])])
    _, sizes, directions = np.linalg.svd(rows)
    if sizes[7] < 1e-6 * sizes[0]:
        return np.zeros((3, 3))
    matrix = np.linalg.inv(to_b) @ directions[8].reshape(3, 3) @ to_a
    return np.asarray(matrix * np.sign((pixels @ matrix[2, :2] + matrix[2, 2]).sum()))


def _normalized(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Homogeneous points (N, 3) around 0 with a spread of 1, and the matrix (3, 3) that makes them so."""
    middle, spread = points.mean(0), points.std(0)
    matrix = np.diag([*(1 / spread), 1.0])
    matrix[:2, 2] = -middle / spread
    return np.column_stack([points, np.ones(len(points))]) @ matrix.T, matrix


def on_ground(points: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Points (N, 2) in pixels as metres (N, 2), NaN beyond the horizon; as they are without a matrix."""
    if matrix is None:
        return points
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    depth = np.where(moved[:, 2:] > 1e-12, moved[:, 2:], np.nan)
    return np.asarray(moved[:, :2] / depth)


class SpeedMeter:
    """The speed of each track: how far it is from where it was a second ago, divided by the time."""

    def __init__(self) -> None:
        self.seen: dict[int, deque[tuple[float, float, float]]] = {}

    def update(self, track: int, place: Sequence[float], seconds: float) -> float:
        """Take the place (2,) of a track at a time. Returns its speed, NaN while it is unknown."""
        seen = self.seen.setdefault(track, deque())
        if seen and seconds <= seen[-1][0]:
            return float("nan")
        seen.append((seconds, place[0], place[1]))
        while len(seen) > 2 and seconds - seen[1][0] >= SPAN:
            seen.popleft()
        before, x, y = seen[0]
        if seconds - before < LEAST:
            return float("nan")
        return float(np.hypot(place[0] - x, place[1] - y)) / (seconds - before)

    def keep(self, tracks: Container[int]) -> None:
        """Forget all other tracks."""
        self.seen = {track: seen for track, seen in self.seen.items() if track in tracks}
