"""Naive twins of `detect.mistakes`: labels and predictions compared one by one, in plain loops."""

import math


def iou(a, b):
    """IoU of two boxes x, y, width, height."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    union = a[2] * a[3] + b[2] * b[3] - inside
    return inside / union if union > 0 else 0.0


def matched(labels, predictions):
    """The prediction of each label of one image, -1 for none, and the predictions that no label explains.

    Args:
        labels: (box, class) of each.
        predictions: (box, class, score) of each, the scores distinct.
    """
    partner, owner = [-1] * len(labels), [-1] * len(predictions)
    order = sorted(range(len(predictions)), key=lambda d: -predictions[d][2])
    for low, high in ((0.5, 2.0), (0.1, 0.5)):
        for d in order:
            best, place = -1, low
            for n, (box, label) in enumerate(labels):
                value = iou(box, predictions[d][0])
                if label == predictions[d][1] and partner[n] < 0 and owner[d] < 0 and place <= value < high:
                    best, place = n, value
            if best >= 0:
                partner[best], owner[d] = d, best
    free = []
    for d, (box, _, _) in enumerate(predictions):
        if owner[d] < 0 and all(iou(box, other) < 0.5 for other, _ in labels):
            free.append(d)
    return partner, free


def logistic_loss(x, y, beta, prior, strength):
    """What `logistic` minimizes: the negative log-likelihood and the distance from the prior."""
    total = 0.0
    for row, hit in zip(x, y, strict=True):
        score = sum(a * b for a, b in zip(row, beta, strict=True))
        total += math.log1p(math.exp(-abs(score))) + max(score, 0.0) - hit * score
    return total + sum(s * (b - p) ** 2 / 2 for s, b, p in zip(strength, beta, prior, strict=True))
