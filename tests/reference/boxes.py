"""Naive overlaps: plain Python, one pair of boxes at a time."""

import math


def area(b):
    return math.prod(max(hi - lo, 0) for lo, hi in zip(b[: len(b) // 2], b[len(b) // 2 :], strict=True))


def overlap(a, b, kind="iou"):
    d = len(a) // 2
    inter = math.prod(max(min(a[d + i], b[d + i]) - max(a[i], b[i]), 0) for i in range(d))
    union = area(a) + area(b) - inter
    iou = inter / union if union else 0.0
    if kind == "iou":
        return iou
    hull = [max(a[d + i], b[d + i]) - min(a[i], b[i]) for i in range(d)]
    if kind == "giou":
        whole = math.prod(hull)
        return iou - ((whole - union) / whole if whole else 0)
    shift = sum(((a[i] + a[d + i]) - (b[i] + b[d + i])) ** 2 for i in range(d)) / 4
    diagonal = sum(h * h for h in hull)
    diou = iou - (shift / diagonal if diagonal else 0)
    if kind == "diou":
        return diou
    angles = [math.atan2(x[2] - x[0], x[3] - x[1]) for x in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return diou - (v * v / (1 - iou + v) if v else 0)
