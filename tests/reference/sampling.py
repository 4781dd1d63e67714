"""Repeat factors one image at a time (Gupta et al., 2019), and the focal loss one logit at a time."""

import math


def repeat_factors(images, threshold):
    """`images` is a list of the sets of classes in each."""
    factors = []
    for ours in images:
        expected = 1.0
        for label in ours:
            share = sum(label in other for other in images) / len(images)
            expected = max(expected, math.sqrt(threshold / share))
        factors.append(expected)
    return factors


def focal(logit, target):
    """For a target of 0 or 1: Lin et al., 2017, equation 5, with alpha 0.25 and gamma 2."""
    p = 1 / (1 + math.exp(-logit))
    right, balance = (p, 0.25) if target == 1 else (1 - p, 0.75)
    return -balance * (1 - right) ** 2 * math.log(right)
