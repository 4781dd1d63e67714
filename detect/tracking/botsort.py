"""BoT-SORT (Aharon et al., 2022, arXiv 2206.14651): ByteTrack that follows the camera.

Three things differ from ByteTrack: the Kalman filter estimates width and height of boxes; its predictions are moved by
the motion of the camera between two frames; and embeddings, where given, help the matching (which `ByteTrack` does,
too).
"""

from __future__ import annotations

import cv2
import numpy as np

from detect.registry import register
from detect.tracking.bytetrack import ByteTrack
from detect.tracking.kalman import SidesFilter
from detect.types import Detections

SIDE = 480  # the shorter side of the images in which the motion of the camera is estimated, in pixels
CORNERS = {"maxCorners": 500, "qualityLevel": 0.01, "minDistance": 1, "blockSize": 3}
LEAST = 10  # matched corners; fewer say nothing of the camera
STILL = np.eye(2, 3)


@register("tracker", "botsort")
class BoTSort(ByteTrack):
    """ByteTrack with the motion of the camera compensated, and a filter of width and height."""

    uses_image = True
    unread = ()
    filter = SidesFilter()
    sizes = (6, 7)
    image: np.ndarray | None = None

    def update(
        self, detections: Detections, embeddings: np.ndarray | None = None, image: np.ndarray | None = None
    ) -> Detections:
        """Take the detections of the next frame, and its image (H, W, 3) uint8 RGB; without, the camera stands still.

        See `Tracker.update`.
        """
        if self.frame == 0:
            self.camera = CameraMotion()
        self.image = image if self.config.camera_motion else None
        self.boxes = detections.boxes[detections.scores.double() >= self.confidence].numpy()
        return super().update(detections, embeddings)

    def _predict(self) -> None:
        super()._predict()
        image, self.image = self.image, None  # of skipped frames there is none
        if image is not None:
            t = self.tracks
            t.mean, t.covariance = moved(t.mean, t.covariance, self.camera.update(image, self.boxes))


def moved(mean: np.ndarray, covariance: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States of `SidesFilter` seen by a camera that has moved (eq. 5 to 8 of the paper).

    Args:
        mean: (T, 8).
        covariance: (T, 8, 8).
        motion: the affine motion (2, 3) of the image: where the points of the frame before are now.

    Returns:
        Mean and covariance in the present image.
    """
    turn = np.kron(np.eye(4), motion[:, :2])
    mean = mean @ turn.T
    mean[:, :2] += motion[:, 2]
    return mean, turn @ covariance @ turn.T


class CameraMotion:
    """The motion of the camera: corners of the frame before, followed by sparse optical flow.

    The motion (shift, turn and scale) that most corners agree on is found by RANSAC, so that objects that move by
    themselves do not count. Corners inside of detections do not count either, which the paper leaves to RANSAC alone:
    where people fill the image, they outvote the street.
    """

    def __init__(self) -> None:
        self.gray: np.ndarray | None = None
        self.corners: np.ndarray | None = None

    def update(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Take the next image.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: the confident detections (N, 4) xyxy in it.

        Returns:
            The affine motion (2, 3) float64 from the image before to this one, in pixels; `STILL` for the first image,
            one of another size, and where too few corners are seen again.
        """
        scale = min(1.0, SIDE / min(image.shape[:2]))
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        before, corners, self.gray = self.gray, self.corners, gray
        self.corners = cv2.goodFeaturesToTrack(gray, mask=_outside(boxes * scale, gray.shape), **CORNERS)  # type: ignore[call-overload]
        if before is None or before.shape != gray.shape or corners is None or len(corners) < LEAST:
            return STILL
        found, status, _ = cv2.calcOpticalFlowPyrLK(before, gray, corners, None)  # type: ignore[call-overload]
        good = status[:, 0] == 1
        if good.sum() < LEAST:
            return STILL
        cv2.setRNGSeed(0)  # RANSAC draws: the same frames give the same tracks
        motion, _ = cv2.estimateAffinePartial2D(corners[good], found[good], method=cv2.RANSAC)
        return STILL if motion is None else motion * [1, 1, 1 / scale]


def _outside(boxes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The mask (H, W) uint8 of the pixels outside of boxes (N, 4)."""
    mask = np.full(size, 255, np.uint8)
    for left, top, right, bottom in boxes.clip(0).round().astype(int):
        mask[top : bottom + 1, left : right + 1] = 0
    return mask
