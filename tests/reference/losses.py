"""Naive losses and decoders: one prediction, one side, one class at a time, in Python floats."""

import math


def softmax(logits):
    top = max(logits)
    powers = [math.exp(v - top) for v in logits]
    return [p / sum(powers) for p in powers]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def distribution_loss(logits, distances):
    """logits: for each of the four sides a list of bins; distances: four numbers, in bins."""
    losses = []
    for side, distance in zip(logits, distances, strict=True):
        p, last = softmax(side), len(side) - 1
        distance = min(max(distance, 0.0), last - 1e-3)
        lower = math.floor(distance)
        share = distance - lower
        losses.append(-(1 - share) * math.log(p[lower]) - share * math.log(p[lower + 1]))
    return sum(losses) / 4


def cross_entropy(logits, targets, used):
    """Sum over the used rows of logits (A lists of C) and targets of the same shape."""
    total = 0.0
    for row, expected, counts in zip(logits, targets, used, strict=True):
        for x, t in zip(row, expected, strict=True):
            total -= counts * (t * math.log(sigmoid(x)) + (1 - t) * math.log(1 - sigmoid(x)))
    return total


def varifocal(score, target):
    """The varifocal loss of one score: its cross-entropy, by the target where there is an object."""
    weight = target if target > 0 else 0.75 * score**2
    return -weight * (target * math.log(score) + (1 - target) * math.log(1 - score))


def point_box(logits, center, stride):
    """The box of four distributions over distances in strides from a cell's centre."""
    left, top, right, bottom = (sum(i * p for i, p in enumerate(softmax(side))) * stride for side in logits)
    return [center[0] - left, center[1] - top, center[0] + right, center[1] + bottom]


def anchor_box(codes, center, stride, anchor, bounded):
    """The box of the four codes of an anchor (w, h): the bounded form, or YOLO v2's."""
    x, y, w, h = codes
    if bounded:
        cx, cy = (c + (2 * sigmoid(v) - 1) * stride for c, v in zip(center, (x, y), strict=True))
        width, height = (a * (2 * sigmoid(v)) ** 2 for a, v in zip(anchor, (w, h), strict=True))
    else:
        cx, cy = (c + (sigmoid(v) - 0.5) * stride for c, v in zip(center, (x, y), strict=True))
        width, height = (a * math.exp(v) for a, v in zip(anchor, (w, h), strict=True))
    return [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
