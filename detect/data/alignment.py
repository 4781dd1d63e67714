"""Alignment: an object rotated, shifted and scaled until its points lie at their mean positions.

Places are complex numbers, x + iy, for which every similarity of the plane is z -> turn * z + shift.

Axes: N objects, K points.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from detect.models.keypoints import seen
from detect.types import Detections

ROUNDS = 10  # of averaging: nothing that could be seen changes after a few
LARGEST = 4  # times the longer side of an image: a view that would be larger comes of points that lie on one another
FINEST = 1024  # pixels a side of a view that is larger than its image: there is no more to see in it
TOO_LONG = 32767  # pixels a side of an image: from there on OpenCV 4 cannot turn it


def mean_shape(places: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the mean shape (K, 2) of points, places (N, K, 2), each object moved nearest to it by a similarity.

    there (N, K) bool says which are labelled. Its own place, size and angle are the mean ones (generalized Procrustes
    analysis; Gower, 1975). Empty (0, 2) where no object has two points; a point that no object has is in the middle.
    """
    points = places[..., 0] + 1j * places[..., 1]
    apart = _spread(points, there / np.maximum(there.sum(1, keepdims=True), 1)) > 0
    points, there = points[apart], there[apart]
    if not len(points):
        return np.zeros((0, 2))
    shape = _mean(points, there)
    for _ in range(ROUNDS):
        turn, shift = nearest(points, there, shape)
        shape = _mean(turn[:, None] * points + shift[:, None], there)
    # Averaging shapes that are not quite aligned shrinks them: rescale the mean to the mean size and angle.
    turn, _ = nearest(points, there, shape)
    size, angle = np.exp(np.log(np.abs(turn)).mean()), np.angle((turn / np.abs(turn)).mean())
    shape = shape.mean() + (shape - shape.mean()) * np.exp(-1j * angle) / size
    return np.stack([shape.real, shape.imag], 1)


def _mean(points: np.ndarray, there: np.ndarray) -> np.ndarray:
    count = there.sum(0)
    mean = np.where(there, points, 0).sum(0) / np.maximum(count, 1)
    return np.where(count > 0, mean, mean[count > 0].mean())


def _spread(points: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N,) standard deviations of the points of each object, which have a share (N, K) each."""
    middle = (share * points).sum(1, keepdims=True)
    return np.sqrt((share * np.abs(points - middle) ** 2).sum(1))


def nearest(points: np.ndarray, there: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return turn and shift (N,) that bring the points (N, K) there nearest to the shape (K,), without mirror images.

    The angle is that of least squares, the size makes points and shape equally large (the symmetric form of Horn,
    1987): that of least squares would make small what differs much. All are complex. Points that all lie in one place
    have no turn: it is not finite.
    """
    share = there / there.sum(1, keepdims=True)
    middle, wanted = (share * points).sum(1), (share * shape).sum(1)
    product = (share * np.conj(points - middle[:, None]) * (shape - wanted[:, None])).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.exp(1j * np.angle(product)) * _spread(shape[None], share) / _spread(points, share)
        return turn, wanted - turn * middle


@dataclass(frozen=True)
class Pose:
    """The pose of an object: turn * z + shift is where place z of the image is in a square view of side 1."""

    turn: complex
    shift: complex

    @staticmethod
    def of(points: np.ndarray, shape: np.ndarray) -> Pose:
        """Return the pose of points (K, 3), x, y and confidence, given the shape (K, 2) in a view of side 1."""
        there = seen(points[:, 2])
        turn, shift = nearest((points[:, 0] + 1j * points[:, 1])[None], there[None], shape[:, 0] + 1j * shape[:, 1])
        return Pose(complex(turn[0]), complex(shift[0]))

    def side(self, image: np.ndarray) -> int:
        """Return the side in pixels of a view as fine as the image (H, W, 3); 0 where there is no view."""
        size, longer = abs(self.turn), max(image.shape[:2])
        if not np.isfinite(size) or size * LARGEST * longer < 1 or longer >= TOO_LONG:
            return 0
        return min(round(1 / size), max(longer, FINEST))

    def view(self, image: np.ndarray) -> np.ndarray:
        """Return the aligned view (side, side, 3) of an image (H, W, 3); what lies outside repeats its border."""
        side = self.side(image)
        turn, half = self.turn * side, 0.5 + 0.5j
        move = turn * half + self.shift * side - half  # OpenCV counts from the centre of the first pixel
        matrix = np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])
        return cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)

    def undo(self, points: np.ndarray, side: int) -> np.ndarray:
        """Convert points (K, 3) in pixels of a view of `side` to pixels of its image."""
        places = ((points[:, 0] + 1j * points[:, 1]) / side - self.shift) / self.turn
        return np.stack([places.real, places.imag, points[:, 2]], 1)


def aligned(image: np.ndarray, found: Detections, shape: np.ndarray) -> np.ndarray | None:
    """Return the aligned view of the one object that a landmarker of mean shape (K, 2) found in an image (H, W, 3).

    None where nothing was found, or there is no view of it: see `Pose.side`.
    """
    if found.keypoints is None or not len(found):
        return None
    pose = Pose.of(found.keypoints[0].double().numpy(), shape)
    return pose.view(image) if pose.side(image) else None
