"""Kalman filters that predict where the boxes of tracks will be: constant velocity, many tracks at once.

The state (T, S) of T tracks is four numbers of their boxes, centre x and y first, then how much these change in a
frame; pixels. The filters differ in the other two numbers, and in what they assume of the noise.
"""

from __future__ import annotations

import numpy as np

PLACE, SPEED = 1 / 20, 1 / 160  # standard deviations of place and speed, as a share of the size of the box
ASPECT, ASPECT_SPEED, ASPECT_SEEN = 1e-2, 1e-5, 1e-1  # those of the aspect ratio are numbers of their own


class BoxFilter:
    """A Kalman filter of boxes.

    A subclass gives `size`, the S numbers of a state, and the methods `measured`, `boxes_of`, and the standard
    deviations `_begun` (N, S) of new states, `_moved` (T, S) of a step and `_seen` (T, 4) of a detection.
    """

    size = 8

    def measured(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) xyxy as what the filter sees of them (N, 4)."""
        raise NotImplementedError

    def boxes_of(self, mean: np.ndarray) -> np.ndarray:
        """States (T, S) as boxes (T, 4) xyxy."""
        raise NotImplementedError

    def _begun(self, seen: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _moved(self, mean: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _seen(self, mean: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def begin(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states (N, S) and covariances (N, S, S) of tracks that start at boxes (N, 4), of unknown speed."""
        seen = self.measured(boxes)
        still = np.zeros((len(seen), self.size - 4))
        return np.hstack([seen, still]), _diagonal(self._begun(seen))

    def predict(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One frame further: x(t + 1) = x(t) + v(t)."""
        move = np.eye(self.size) + np.eye(self.size, k=4)
        return mean @ move.T, move @ covariance @ move.T + _diagonal(self._moved(mean))

    def correct(self, mean: np.ndarray, covariance: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states and covariances once boxes (T, 4) were seen, one of each track."""
        seen = np.eye(4, self.size)  # of the state, a detection shows the box and not its speed
        expected = seen @ covariance @ seen.T + _diagonal(self._seen(mean))
        gain = np.linalg.solve(expected, seen @ covariance).transpose(0, 2, 1)  # both are symmetric
        surprise = self.measured(boxes) - mean @ seen.T
        return mean + (gain @ surprise[..., None])[..., 0], covariance - gain @ expected @ gain.transpose(0, 2, 1)


class AspectFilter(BoxFilter):
    """Centre, aspect ratio w / h and height; noise grows with the height, as in DeepSORT (Wojke et al., 2017)."""

    def measured(self, boxes: np.ndarray) -> np.ndarray:
        sides = boxes[:, 2:] - boxes[:, :2]
        height = np.maximum(sides[:, 1:], 1e-9)
        return np.hstack([_centres(boxes), sides[:, :1] / height, height])

    def boxes_of(self, mean: np.ndarray) -> np.ndarray:
        return _around(mean[:, :2], np.stack([mean[:, 2] * mean[:, 3], mean[:, 3]], axis=1))

    def _begun(self, seen: np.ndarray) -> np.ndarray:
        height = seen[:, 3]
        return np.hstack([_spread(height, 2 * PLACE, ASPECT), _spread(height, 10 * SPEED, ASPECT_SPEED)])

    def _moved(self, mean: np.ndarray) -> np.ndarray:
        return np.hstack([_spread(mean[:, 3], PLACE, ASPECT), _spread(mean[:, 3], SPEED, ASPECT_SPEED)])

    def _seen(self, mean: np.ndarray) -> np.ndarray:
        return _spread(mean[:, 3], PLACE, ASPECT_SEEN)


class SidesFilter(BoxFilter):
    """Centre, width and height; noise grows with width and height, as in BoT-SORT (Aharon et al., 2022, eq. 1 to 4)."""

    def measured(self, boxes: np.ndarray) -> np.ndarray:
        return np.hstack([_centres(boxes), boxes[:, 2:] - boxes[:, :2]])

    def boxes_of(self, mean: np.ndarray) -> np.ndarray:
        return _around(mean[:, :2], mean[:, 2:4].clip(0))

    def _begun(self, seen: np.ndarray) -> np.ndarray:
        return np.hstack([2 * PLACE * self._sides(seen), 10 * SPEED * self._sides(seen)])

    def _moved(self, mean: np.ndarray) -> np.ndarray:
        return np.hstack([PLACE * self._sides(mean), SPEED * self._sides(mean)])

    def _seen(self, mean: np.ndarray) -> np.ndarray:
        return PLACE * self._sides(mean)

    @staticmethod
    def _sides(mean: np.ndarray) -> np.ndarray:
        return np.tile(mean[:, 2:4].clip(1e-3), 2)  # a box without area would leave no noise to divide by


class AreaFilter(BoxFilter):
    """Centre, area and aspect ratio w / h, which does not change; noise in pixels, as in SORT (Bewley et al., 2016)."""

    size = 7
    BEGUN = np.sqrt([10, 10, 10, 10, 1e4, 1e4, 1e4])
    MOVED = np.sqrt([1, 1, 1, 1, 1e-2, 1e-2, 1e-4])
    SEEN = np.sqrt([1, 1, 10, 10])

    def measured(self, boxes: np.ndarray) -> np.ndarray:
        width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9).T
        return np.hstack([_centres(boxes), np.stack([width * height, width / height], axis=1)])

    def boxes_of(self, mean: np.ndarray) -> np.ndarray:
        area, aspect = mean[:, 2].clip(1e-9), mean[:, 3].clip(1e-9)
        width = np.sqrt(area * aspect)
        return _around(mean[:, :2], np.stack([width, area / width], axis=1))

    def predict(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = mean.copy()
        mean[mean[:, 2] + mean[:, 6] <= 0, 6] = 0  # no area shrinks to less than nothing
        return super().predict(mean, covariance)

    def _begun(self, seen: np.ndarray) -> np.ndarray:
        return np.tile(self.BEGUN, (len(seen), 1))

    def _moved(self, mean: np.ndarray) -> np.ndarray:
        return np.tile(self.MOVED, (len(mean), 1))

    def _seen(self, mean: np.ndarray) -> np.ndarray:
        return np.tile(self.SEEN, (len(mean), 1))


def _centres(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _around(centres: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) xyxy with sides (N, 2) around centres (N, 2)."""
    return np.hstack([centres - sides / 2, centres + sides / 2])


def _spread(height: np.ndarray, share: float, aspect: float) -> np.ndarray:
    """Standard deviations (T, 4): a share of the height, but for the aspect ratio."""
    spread = np.repeat(share * height[:, None], 4, axis=1)
    spread[:, 2] = aspect
    return spread


def _diagonal(spread: np.ndarray) -> np.ndarray:
    return np.square(spread)[:, :, None] * np.eye(spread.shape[1])
