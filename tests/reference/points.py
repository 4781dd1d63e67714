"""Naive twins of what is done with landmarks: losses, heatmaps, errors."""

import math


def wing(found: float, expected: float, width: float = 10.0, curve: float = 2.0) -> float:
    """Feng et al. (2018), equation 5, of one coordinate."""
    x = abs(found - expected)
    if x < width:
        return width * math.log(1 + x / curve)
    return x - (width - width * math.log(1 + width / curve))


def expectation(heat: list[list[float]]) -> tuple[float, float]:
    """The mean place, x and y in cells, under the softmax of one heatmap's rows."""
    top = max(max(row) for row in heat)
    weights = [[math.exp(v - top) for v in row] for row in heat]
    total = sum(sum(row) for row in weights)
    x = sum(v * (j + 0.5) for row in weights for j, v in enumerate(row)) / total
    y = sum(v * (i + 0.5) for i, row in enumerate(weights) for v in row) / total
    return x, y


def spread(heat: list[list[float]], place: tuple[float, float], sigma: float = 1.0) -> float:
    """Cross-entropy of the softmax of one heatmap to a Gaussian around a place in cells."""
    cells = [(i, j) for i in range(len(heat)) for j in range(len(heat[0]))]
    bell = {
        (i, j): math.exp(-((j + 0.5 - place[0]) ** 2 + (i + 0.5 - place[1]) ** 2) / (2 * sigma**2)) for i, j in cells
    }
    top = max(heat[i][j] for i, j in cells)
    total = top + math.log(sum(math.exp(heat[i][j] - top) for i, j in cells))
    return -sum(bell[cell] * (heat[cell[0]][cell[1]] - total) for cell in cells) / sum(bell.values())


def error(found: list[list[float]], ground_truth: list[list[float]], length: float) -> float:
    """The mean distance of the labelled points (x, y, visibility) over a length."""
    far = [math.dist(f[:2], t[:2]) for f, t in zip(found, ground_truth, strict=True) if t[2] > 0]
    return sum(far) / len(far) / length


def area(errors: list[float], limit: float, steps: int = 20000) -> float:
    """The area under the cumulative error curve from 0 to the limit, as a share of it, by the midpoint rule."""
    places = [(i + 0.5) * limit / steps for i in range(steps)]
    return sum(sum(e <= p for e in errors) / len(errors) for p in places) / steps
