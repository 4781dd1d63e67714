"""Naive twins of what embedders are trained and measured with: plain loops over images, pairs and triplets."""

import math
from itertools import pairwise


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def triplet_losses(vectors: list[list[float]], people: list[int], margin: float, mining: str) -> list[float]:
    """The loss of each triplet that semi_hard or batch_hard chooses."""
    n = len(vectors)
    losses = []
    for a in range(n):
        friends = [squared(vectors[a], vectors[p]) for p in range(n) if p != a and people[p] == people[a]]
        others = [squared(vectors[a], vectors[q]) for q in range(n) if people[q] != people[a]]
        if not friends or not others:
            continue
        if mining == "batch_hard":
            losses.append(max(0.0, math.sqrt(max(friends)) - math.sqrt(min(others)) + margin))
            continue
        for near in friends:
            beyond = [far for far in others if far > near]
            losses.append(max(0.0, near - (min(beyond) if beyond else max(others)) + margin))
    return losses


def contrastive_losses(vectors: list[list[float]], people: list[int], margin: float) -> tuple[list[float], list[float]]:
    """The losses of pairs of one person, and of pairs of two."""
    same, different = [], []
    for i in range(len(vectors)):
        for j in range(i):
            d = math.sqrt(squared(vectors[i], vectors[j]))
            if people[i] == people[j]:
                same.append(d**2 / 2)
            else:
                different.append(max(0.0, margin - d) ** 2 / 2)
    return same, different


def siamese_losses(
    vectors: list[list[float]], people: list[int], weight: list[float], bias: float
) -> tuple[list[float], list[float]]:
    """Minus the logarithm of the probability of the ground truth, for pairs of one person and of two."""
    same, different = [], []
    for i in range(len(vectors)):
        for j in range(i):
            logit = bias - sum(w * abs(x - y) for w, x, y in zip(weight, vectors[i], vectors[j], strict=True))
            probability = 1 / (1 + math.exp(-logit))
            if people[i] == people[j]:
                same.append(-math.log(probability))
            else:
                different.append(-math.log(1 - probability))
    return same, different


def area(same: list[float], different: list[float]) -> float:
    """How often a pair of one person is nearer than one of two; a tie counts half."""
    wins = sum((s < d) + 0.5 * (s == d) for s in same for d in different)
    return wins / (len(same) * len(different))


def rates(same: list[float], different: list[float], limit: float) -> tuple[float, float]:
    """The shares of false and of true accepts where distances up to `limit` are accepted."""
    return sum(d <= limit for d in different) / len(different), sum(s <= limit for s in same) / len(same)


def true_accepts(same: list[float], different: list[float], share: float) -> float:
    """The most true accepts of any limit with at most this share of false ones."""
    limits = [-math.inf, *same, *different]
    return max(true for false, true in (rates(same, different, limit) for limit in limits) if false <= share)


def best_accuracy(same: list[float], different: list[float]) -> float:
    """The best mean of true accepts and true rejects of any limit."""
    limits = [-math.inf, *same, *different]
    return max((true + 1 - false) / 2 for false, true in (rates(same, different, limit) for limit in limits))


def equal_error(same: list[float], different: list[float], steps: int = 20001) -> float:
    """Where false accepts and false rejects are as many, by walking along the straight lines of the curve."""
    limits = [-math.inf, *sorted({*same, *different})]
    points = [rates(same, different, limit) for limit in limits]
    best = (2.0, 0.0)
    for (f0, t0), (f1, t1) in pairwise(points):
        for k in range(steps // len(points) + 2):
            s = k / (steps // len(points) + 1)
            false, true = f0 + s * (f1 - f0), t0 + s * (t1 - t0)
            best = min(best, (abs(false - (1 - true)), false))
    return best[1]


def mean_of_squares(first: list[list[float]], second: list[list[float]], weights: list[float]) -> float:
    """The weighted mean of the squared Euclidean distances of two embeddings by each of several models."""
    total = 0.0
    for a, b, weight in zip(first, second, weights, strict=True):
        total += weight * squared(a, b)
    return total / sum(weights)


def mean_of_logits(
    first: list[list[float]], second: list[list[float]], units: list[tuple[list[float], float]], weights: list[float]
) -> float:
    """Minus the weighted mean of the logits of several Siamese units: `units` are their weights and biases."""
    total = 0.0
    for a, b, (unit, bias), weight in zip(first, second, units, weights, strict=True):
        total += weight * (bias - sum(u * abs(x - y) for u, x, y in zip(unit, a, b, strict=True)))
    return -total / sum(weights)
