"""Naive fit of anchors: one size and one anchor at a time."""

import math


def mean_iou(sizes, anchors):
    return sum(max(_iou(size, anchor) for anchor in anchors) for size in sizes) / len(sizes)


def _iou(size, anchor):
    inter = math.prod(map(min, size, anchor))
    return inter / (math.prod(size) + math.prod(anchor) - inter)


def recall(sizes, anchors, ratio):
    near = [
        any(all(max(s / t, t / s) < ratio for s, t in zip(*pair, strict=True)) for pair in ((size, a) for a in anchors))
        for size in sizes
    ]
    return sum(near) / len(sizes)
