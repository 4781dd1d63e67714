"""An image with a style of its own, drawn in code: thick strokes that follow a swirling field, in few colours."""

import sys

import cv2
import numpy as np

COLOURS = ((18, 44, 108), (32, 96, 168), (86, 160, 206), (238, 196, 64), (226, 120, 40), (244, 236, 200))


def strokes(size: int = 256, seed: int = 0, count: int = 2600) -> np.ndarray:
    """(size, size, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), COLOURS[0], np.uint8)
    middles = rng.uniform(0, size, (5, 2))
    for _ in range(count):
        place, colour = rng.uniform(0, size, 2), COLOURS[rng.integers(len(COLOURS))]
        points = []
        for _ in range(7):
            away = place - middles
            distance = np.linalg.norm(away, axis=1, keepdims=True) + size / 50
            turn = np.stack([-away[:, 1], away[:, 0]], 1) / distance**2
            step = turn.sum(0)
            points.append(place.copy())
            place = place + step / (np.linalg.norm(step) + 1e-9) * size / 64
        line = np.round(points).astype(np.int32).reshape(-1, 1, 2)
        shade = np.clip(np.array(colour) + rng.normal(0, 14, 3), 0, 255).astype(int).tolist()
        cv2.polylines(image, [line], False, shade, max(1, size // 80), cv2.LINE_AA)
    return image


if __name__ == "__main__":  # python -m tests.reference.strokes FILE SIZE
    cv2.imwrite(sys.argv[1], strokes(int(sys.argv[2]))[..., ::-1])
