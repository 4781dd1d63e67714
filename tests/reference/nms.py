"""Naive suppression: the definition as loops, in the boxes' own arithmetic."""

import math

import numpy as np


def _iou(a, b):
    zero, one, d = a.dtype.type(0), a.dtype.type(1), len(a) // 2  # NumPy 1 makes float64 of Python's 1 times float32
    inter = math.prod((max(min(a[d + i], b[d + i]) - max(a[i], b[i]), zero) for i in range(d)), start=one)
    areas = [math.prod((x[d + i] - x[i] for i in range(d)), start=one) for x in (a, b)]
    with np.errstate(invalid="ignore"):
        return float(np.divide(inter, areas[0] + areas[1] - inter))


def nms(boxes, scores, iou):
    boxes, scores = np.asarray(boxes), np.asarray(scores)
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(_iou(boxes[k], boxes[i]) > iou for k in kept):
            kept.append(i)
    return kept


def batched_nms(boxes, scores, labels, iou):
    kept = []
    for label in set(labels.tolist()):
        group = [i for i in range(len(labels)) if labels[i] == label]
        kept += [group[i] for i in nms(boxes[group], scores[group], iou)]
    return sorted(kept, key=lambda i: (-scores[i], i))


def soft_nms(boxes, scores, labels, sigma, least):
    boxes, scores = np.asarray(boxes), list(map(float, scores))
    left, taken = set(range(len(boxes))), []
    while left:
        best = min(left, key=lambda i: (-scores[i], i))
        if scores[best] < least:
            break
        taken.append((best, scores[best]))
        left.remove(best)
        for i in left:
            if labels[i] == labels[best]:
                iou = _iou(boxes[best], boxes[i])
                scores[i] *= 1 if np.isnan(iou) else float(np.exp(-(iou**2) / sigma))
    return taken
