"""The Kalman filter that predicts where the boxes of tracks will be: constant velocity, many tracks at once.

The state (T, 8) of T tracks is the centre x and y, the aspect ratio w / h and the height of their boxes, then how much
each changes in a frame; pixels. How unsure it is grows with the height of the box, as in DeepSORT (Wojke et al., 2017).
"""

from __future__ import annotations

import numpy as np

PLACE, SPEED = 1 / 20, 1 / 160  # standard deviations of place and speed, in heights
ASPECT, ASPECT_SPEED, ASPECT_SEEN = 1e-2, 1e-5, 1e-1  # those of the aspect ratio are numbers of their own
MOVE = np.eye(8) + np.eye(8, k=4)  # x(t + 1) = x(t) + v(t)
SEEN = np.eye(4, 8)  # of the state, a detection shows place, aspect and height


def measured(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) xyxy as what the filter sees of them (N, 4): centre x and y, aspect, height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    height = np.maximum(sides[:, 1:], 1e-9)
    return np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, sides[:, :1] / height, height])


def boxes_of(mean: np.ndarray) -> np.ndarray:
    """States (T, 8) as boxes (T, 4) xyxy."""
    half = np.stack([mean[:, 2] * mean[:, 3], mean[:, 3]], axis=1) / 2
    return np.hstack([mean[:, :2] - half, mean[:, :2] + half])


def begin(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states (N, 8) and covariances (N, 8, 8) of tracks that start at boxes (N, 4), of unknown speed."""
    seen = measured(boxes)
    place, speed = _spread(seen[:, 3], 2 * PLACE, ASPECT), _spread(seen[:, 3], 10 * SPEED, ASPECT_SPEED)
    return np.hstack([seen, np.zeros_like(seen)]), _diagonal(np.hstack([place, speed]))


def predict(mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One frame further."""
    noise = [_spread(mean[:, 3], PLACE, ASPECT), _spread(mean[:, 3], SPEED, ASPECT_SPEED)]
    return mean @ MOVE.T, MOVE @ covariance @ MOVE.T + _diagonal(np.hstack(noise))


def correct(mean: np.ndarray, covariance: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states and covariances once boxes (T, 4) were seen, one of each track."""
    noise = _diagonal(_spread(mean[:, 3], PLACE, ASPECT_SEEN))
    expected = SEEN @ covariance @ SEEN.T + noise
    gain = np.linalg.solve(expected, SEEN @ covariance).transpose(0, 2, 1)  # both are symmetric
    surprise = measured(boxes) - mean @ SEEN.T
    return mean + (gain @ surprise[..., None])[..., 0], covariance - gain @ expected @ gain.transpose(0, 2, 1)


def _spread(height: np.ndarray, share: float, aspect: float) -> np.ndarray:
    """Standard deviations (T, 4): a share of the height, but for the aspect ratio."""
    spread = np.repeat(share * height[:, None], 4, axis=1)
    spread[:, 2] = aspect
    return spread


def _diagonal(spread: np.ndarray) -> np.ndarray:
    return np.square(spread)[:, :, None] * np.eye(spread.shape[1])
