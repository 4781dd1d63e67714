"""Naive fit of anchors: one size and one anchor at a time."""


def mean_iou(sizes, anchors):
    return sum(max(_iou(*size, *anchor) for anchor in anchors) for size in sizes) / len(sizes)


def _iou(w, h, aw, ah):
    inter = min(w, aw) * min(h, ah)
    return inter / (w * h + aw * ah - inter)


def recall(sizes, anchors, ratio):
    near = [any(max(w / aw, aw / w, h / ah, ah / h) < ratio for aw, ah in anchors) for w, h in sizes]
    return sum(near) / len(sizes)
