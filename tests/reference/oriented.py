"""Oriented boxes as plain loops over floats: corners, clipping, Gaussians and greedy suppression."""

import math


def corners(box):
    cx, cy, w, h, angle = box
    cos, sin = math.cos(angle), math.sin(angle)
    local = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return [(cx + x * cos - y * sin, cy + x * sin + y * cos) for x, y in local]


def polygon_area(points):
    return sum(x * v - u * y for (x, y), (u, v) in zip(points, points[1:] + points[:1], strict=True)) / 2


def clip(points, first, second):
    """The part of a convex polygon to the right of the line from first to second, where y points down."""
    (x1, y1), (x2, y2) = first, second
    side = [(x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) for x, y in points]
    kept = []
    for i, (p, q) in enumerate(zip(points, points[1:] + points[:1], strict=True)):
        s, t = side[i], side[(i + 1) % len(points)]
        if s >= 0:
            kept.append(p)
        if (s > 0 > t) or (s < 0 < t):
            kept.append((p[0] + (q[0] - p[0]) * s / (s - t), p[1] + (q[1] - p[1]) * s / (s - t)))
    return kept


def iou(a, b):
    common, other = corners(a), corners(b)
    for i in range(4):
        common = clip(common, other[i], other[(i + 1) % 4]) if common else []
    inter = abs(polygon_area(common)) if len(common) > 2 else 0.0
    union = a[2] * a[3] + b[2] * b[3] - inter
    return inter / union if union > 0 else 0.0


def covariance(box):
    _, _, w, h, angle = box
    a, b, cos, sin = w * w / 12, h * h / 12, math.cos(angle), math.sin(angle)
    return a * cos**2 + b * sin**2, a * sin**2 + b * cos**2, (a - b) * cos * sin


def prob_iou(p, q):
    """Equations 2 to 8 of arXiv 2106.06072."""
    (a1, b1, c1), (a2, b2, c2) = covariance(p), covariance(q)
    dx, dy = p[0] - q[0], p[1] - q[1]
    det = (a1 + a2) * (b1 + b2) - (c1 + c2) ** 2
    first = ((a1 + a2) * dy**2 + (b1 + b2) * dx**2) / det / 4 - (c1 + c2) * dx * dy / det / 2
    second = math.log(det / (4 * math.sqrt((a1 * b1 - c1**2) * (a2 * b2 - c2**2)))) / 2
    return 1 - math.sqrt(max(0.0, 1 - math.exp(-(first + second))))


def nms(boxes, scores, groups, threshold):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(groups[i] == groups[k] and iou(boxes[k], boxes[i]) > threshold for k in kept):
            kept.append(i)
    return kept
