"""The costs of style transfer as plain loops."""

from typing import Any

Map = list[list[list[float]]]  # channels, rows, columns


def content_cost(ours: Map, reference: Map) -> float:
    """Half the sum over channels, rows and columns of the squared differences."""
    total = 0.0
    for plane, other in zip(ours, reference, strict=True):
        for row, other_row in zip(plane, other, strict=True):
            for a, b in zip(row, other_row, strict=True):
                total += (b - a) ** 2
    return total / 2


def gram(maps: Map) -> list[list[float]]:
    """For each two channels k, k' the sum over places of the product of the two."""
    made = [[0.0 for _ in maps] for _ in maps]
    for k, plane in enumerate(maps):
        for other, second in enumerate(maps):
            for i, row in enumerate(plane):
                for j, value in enumerate(row):
                    made[k][other] += value * second[i][j]
    return made


def style_cost(ours: Map, reference: Map) -> float:
    """One over 2 H W C times the squared differences of the two Gram matrices."""
    total = 0.0
    for row, other_row in zip(gram(ours), gram(reference), strict=True):
        for a, b in zip(row, other_row, strict=True):
            total += (b - a) ** 2
    return total / (2 * len(ours[0]) * len(ours[0][0]) * len(ours))


def total_variation(image: Map) -> float:
    """The squared difference of each pixel to the one below and the one to the right."""
    total = 0.0
    for plane in image:
        for i, row in enumerate(plane):
            for j, value in enumerate(row):
                if i + 1 < len(plane):
                    total += (plane[i + 1][j] - value) ** 2
                if j + 1 < len(row):
                    total += (row[j + 1] - value) ** 2
    return total


def objective(
    maps: Any, content: Any, style: Any, layers: dict[str, float], weights: dict[str, float], at: str
) -> float:
    """J in units of what the style image's content and the content image's style cost; `maps` of each by layer."""
    total = weights["alpha"] * content_cost(maps[at], content[at]) / content_cost(style[at], content[at])
    for name, share in layers.items():
        total += weights["beta"] * share * style_cost(maps[name], style[name]) / style_cost(content[name], style[name])
    return total
