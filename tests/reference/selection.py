"""What the criteria of `detect next` compute, as plain loops over Python numbers."""

import math


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / area if area > 0 else 0.0


def objects(boxes, scores, labels, classes, same=0.5):
    """[(index of the best, {class: score})]: the best detection that is left takes all that overlap it."""
    left = sorted(range(len(boxes)), key=lambda i: -scores[i])
    found = []
    while left:
        best = left[0]
        here = [i for i in left if i == best or overlap(boxes[best], boxes[i]) >= same]
        left = [i for i in left if i not in here]
        of_class = [0.0] * classes
        for i in here:
            of_class[labels[i]] = max(of_class[labels[i]], scores[i])
        found.append((best, of_class))
    return found


def entropy(of_class, exclusive):
    def term(p):
        return p * math.log(p) if p > 0 else 0.0

    return -sum(term(p) if exclusive else term(p) + term(1 - p) for p in of_class)


def closeness(of_class, exclusive):
    best, *others = sorted(of_class, reverse=True)
    others += [] if exclusive else [1 - best]
    return 1 - abs(best - max(others, default=0.0))


def losses(own, other):
    """What objects (box, {class: score}) of an image lose in a view; see `detect.selection.disagreement.compare`."""
    pairs = [(overlap(a, b), -i, -j) for i, (a, _) in enumerate(own) for j, (b, _) in enumerate(other)]
    lost, met = {}, set()
    for iou, i, j in sorted((p for p in pairs if p[0] >= 0.5), reverse=True):
        i, j = -i, -j
        if i not in lost and j not in met:
            top, twin = own[i][1], other[j][1]
            differs = top.index(max(top)) != twin.index(max(twin))
            lost[i] = max(top) * (1 - iou + differs)
            met.add(j)
    alone = [max(scores) for j, (_, scores) in enumerate(other) if j not in met]
    return [lost.get(i, max(scores)) for i, (_, scores) in enumerate(own)] + alone


def divergence(p, q):
    total = 0.0
    for a, b in zip(p, q, strict=True):
        for x in (a, b):
            total += x * math.log(2 * x / (a + b)) / 2 if x > 0 else 0.0
    return total


def rarity(found, counts):
    mean = sum(counts) / len(counts)
    return sum(p * (mean + 1) / (counts[c] + 1) for _, of_class in found for c, p in enumerate(of_class))


def k_center(points, centers, budget):
    """Greedy: each time the point farthest from all centers; the first of equal ones."""
    centers, chosen = list(centers), []
    for _ in range(budget):
        away = [min(math.dist(p, c) for c in centers) if i not in chosen else -1.0 for i, p in enumerate(points)]
        best = away.index(max(away))
        chosen.append(best)
        centers.append(points[best])
    return chosen


def lower_share(values, i):
    lower = sum(v < values[i] for v in values)
    ties = sum(v == values[i] for v in values) - 1
    return (lower + ties / 2) / (len(values) - 1) if len(set(values)) > 1 else 0.0
